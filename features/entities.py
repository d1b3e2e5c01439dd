"""The entities: the things that features belong to."""

from headrace import Entity

origin = Entity("origin", str)
carrier = Entity("carrier", str)
dest = Entity("dest", str)
route = Entity("route", keys=["origin", "dest"])
