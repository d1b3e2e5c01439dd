"""What arrives: one stream of clicks."""

from datetime import datetime

from headrace import Event, Stream


class Click(Event):
    user: str
    page: str
    clicked_at: datetime


clicks = Stream("clicks", Click, event_time="clicked_at", key="user")
