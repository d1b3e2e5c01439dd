"""The scripts of the online store. Each runs within one shard: docs/reference/online-format.md."""

from __future__ import annotations

from headrace.features.online.redis.script import Script

ACQUIRE = Script("""
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored then return false end
local taken = ARGV[2] .. string.sub(stored, 17, 44) .. ARGV[3] .. string.sub(stored, 49)
redis.call('HSET', KEYS[1], ARGV[1], taken)
return taken
""")
"""KEYS cursors; ARGV source, owner, partitions (u32)."""

WRITE = Script("""
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local found = stored and string.sub(stored, 1, 24) or ''
if found ~= ARGV[2] then
  return found == string.sub(ARGV[3], 1, 24) and 2 or 0
end
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], ARGV[1], ARGV[i + 2])
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.sub(ARGV[3], 1, 48) .. struct.pack('<i8', time[1] * 1000000 + time[2]))
return 1
""")
"""KEYS cursors, entities…; ARGV source, fence wanted ('' for absent), cursor, fields…"""

LOOK_UP = Script("""
local found = {redis.call('TIME')}
for i = 1, #KEYS do found[i + 1] = redis.call('HGETALL', KEYS[i]) end
return found
""")
"""KEYS cursors and entities. For clusters, and cursors alone: a single node is asked in a transaction."""

SCAVENGE = Script("""
local clock = nil
for _, cursor in ipairs(redis.call('HVALS', KEYS[1])) do
  local own = struct.unpack('<i8', cursor, 33)
  if not clock or own > clock then clock = own end
end
local removed = 0
if not clock then return removed end
local horizon = clock - tonumber(ARGV[1])
for i = 2, #KEYS do
  local fields = redis.call('HGETALL', KEYS[i])
  for f = 1, #fields, 2 do
    if struct.unpack('<i8', fields[f + 1], 25) <= horizon then
      removed = removed + redis.call('HDEL', KEYS[i], fields[f])
    end
  end
end
return removed
""")
"""KEYS cursors, entities…; ARGV reach in us."""
DROP = Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed
""")
"""KEYS cursors, entities…"""
