"""Changes of the ledger, each a Lua script that Redis runs as one step. Time is the server's, so that nodes' clocks
don't matter.

Keys below the prefix ``ARGV[1]``: ``task:ID`` (a hash), a sorted set for each state but ``succeeded`` and
``cancelled``, ``horizon`` (when the newest task that any worker has taken was put into the queue), ``once:DIGEST`` (an
idempotency key's task). Scores: when it was queued, until when its worker's lease runs, when a retry is due, when it
died.

Keys are made in the scripts, so this is for one Redis (or a Sentinel's), not for a Redis Cluster; Celery's Redis
transport has the same limit.
"""

from __future__ import annotations

from typing import Final

_PRELUDE: Final = """
local p, clock = ARGV[1], redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local function text(number) return string.format('%.6f', number) end
local function key(id) return p .. 'task:' .. id end
local function move(id, from, to, score, ttl)
  redis.call('ZREM', p .. from, id)
  redis.call('HSET', key(id), 'state', to, 'changed_at', text(now))
  redis.call('HDEL', key(id), 'owner')
  if score then redis.call('ZADD', p .. to, text(score), id) end
  if ttl > 0 then redis.call('EXPIRE', key(id), ttl) else redis.call('PERSIST', key(id)) end
end
"""

SUBMIT: Final = (
    _PRELUDE
    + """
-- id, handler, input, content type, digest, once ('' for none), once's seconds, most unfinished, trace ('' for none)
local id, once = ARGV[2], ARGV[7]
if once ~= '' then
  local before = redis.call('HMGET', p .. 'once:' .. once, 'id', 'digest')
  if before[1] and redis.call('EXISTS', key(before[1])) == 1 then
    return {before[2] == ARGV[6] and 'known' or 'differs', before[1]}
  end
end
local unfinished = 0
for _, state in ipairs({'queued', 'running', 'retrying'}) do
  unfinished = unfinished + redis.call('ZCARD', p .. state)
end
if unfinished >= tonumber(ARGV[9]) then return {'full', ''} end
redis.call('HSET', key(id), 'state', 'queued', 'handler', ARGV[3], 'input', ARGV[4], 'content_type', ARGV[5],
  'submitted_at', text(now), 'changed_at', text(now), 'attempts', 0, 'losses', 0)
if ARGV[10] ~= '' then redis.call('HSET', key(id), 'trace', ARGV[10]) end
redis.call('ZADD', p .. 'queued', text(now), id)
if once ~= '' then
  redis.call('HSET', p .. 'once:' .. once, 'id', id, 'digest', ARGV[6])
  redis.call('EXPIRE', p .. 'once:' .. once, ARGV[8])
end
return {'created', id}
"""
)

FORGET: Final = (
    _PRELUDE
    + """
-- id, once: a submission that could not be published; a worker that has taken it nevertheless keeps it
if redis.call('HGET', key(ARGV[2]), 'state') ~= 'queued' then return 0 end
redis.call('ZREM', p .. 'queued', ARGV[2])
redis.call('DEL', key(ARGV[2]))
if ARGV[3] ~= '' then redis.call('DEL', p .. 'once:' .. ARGV[3]) end
return 1
"""
)

CLAIM: Final = (
    _PRELUDE
    + """
-- id, owner, lease
local id = ARGV[2]
local state = redis.call('HGET', key(id), 'state')
if state ~= 'queued' then return {state or 'unknown'} end
local since = redis.call('ZSCORE', p .. 'queued', id) or text(now)
if tonumber(since) > tonumber(redis.call('GET', p .. 'horizon') or 0) then redis.call('SET', p .. 'horizon', since) end
move(id, 'queued', 'running', now + tonumber(ARGV[4]), 0)
redis.call('HSET', key(id), 'owner', ARGV[3], 'started_at', text(now))
local attempts = redis.call('HINCRBY', key(id), 'attempts', 1)
local found = redis.call('HMGET', key(id), 'handler', 'input', 'content_type', 'losses', 'trace')
return {'claimed', found[1], found[2], found[3], attempts, found[4], text(now - tonumber(since)), found[5] or ''}
"""
)

LEAVE: Final = (
    _PRELUDE
    + """
-- id, owner, new state, delay ('' for none), ttl, then fields and values: the end of a run, if it is still the owner's
local id, to = ARGV[2], ARGV[4]
local found = redis.call('HMGET', key(id), 'state', 'owner')
if found[1] ~= 'running' or found[2] ~= ARGV[3] then return found[1] or 'unknown' end
for i = 7, #ARGV, 2 do redis.call('HSET', key(id), ARGV[i], ARGV[i + 1]) end
if to == 'succeeded' then redis.call('HDEL', key(id), 'input', 'error') end
if to == 'queued' then redis.call('HINCRBY', key(id), 'attempts', -1) end
move(id, 'running', to, ARGV[5] ~= '' and now + tonumber(ARGV[5]) or nil, tonumber(ARGV[6]))
return to
"""
)

CANCEL: Final = (
    _PRELUDE
    + """
-- id, ttl
local state = redis.call('HGET', key(ARGV[2]), 'state')
if state ~= 'queued' and state ~= 'running' and state ~= 'retrying' then return state or 'unknown' end
redis.call('HDEL', key(ARGV[2]), 'input')
move(ARGV[2], state, 'cancelled', nil, tonumber(ARGV[3]))
return 'done'
"""
)

REQUEUE: Final = (
    _PRELUDE
    + """
-- id
local found = redis.call('HMGET', key(ARGV[2]), 'state', 'handler')
if found[1] ~= 'failed' and found[1] ~= 'unprocessable' then return found[1] or 'unknown' end
if found[2] == '' then return 'foreign' end
redis.call('HSET', key(ARGV[2]), 'attempts', 0, 'losses', 0)
redis.call('HDEL', key(ARGV[2]), 'error')
move(ARGV[2], found[1], 'queued', now, 0)
return 'done'
"""
)

DROP: Final = (
    _PRELUDE
    + """
-- id
local state = redis.call('HGET', key(ARGV[2]), 'state')
if state ~= 'failed' and state ~= 'unprocessable' then return state or 'unknown' end
redis.call('ZREM', p .. state, ARGV[2])
redis.call('DEL', key(ARGV[2]))
return 'done'
"""
)

RENEW: Final = (
    _PRELUDE
    + """
-- lease, then ids and owners; returns the ids that are no longer theirs
local gone = {}
for i = 3, #ARGV, 2 do
  local found = redis.call('HMGET', key(ARGV[i]), 'state', 'owner')
  if found[1] == 'running' and found[2] == ARGV[i + 1] then
    redis.call('ZADD', p .. 'running', text(now + tonumber(ARGV[2])), ARGV[i])
  else
    gone[#gone + 1] = ARGV[i]
  end
end
return gone
"""
)

SWEEP: Final = (
    _PRELUDE
    + """
-- most losses, limit, slack, whether the broker's queue is empty, dead letters' ttl, what is said of the lost
-- Returns ids to publish, how many workers were lost, how many tasks by that became unprocessable, messages lost.
local most, limit, ids, lost, dead = tonumber(ARGV[2]), tonumber(ARGV[3]), {}, 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'running', '-inf', text(now), 'LIMIT', 0, limit)) do
  lost = lost + 1
  if redis.call('HINCRBY', key(id), 'losses', 1) >= most then
    dead = dead + 1
    redis.call('HSET', key(id), 'error', ARGV[7])
    move(id, 'running', 'unprocessable', now, tonumber(ARGV[6]))
  else
    redis.call('HINCRBY', key(id), 'attempts', -1)
    move(id, 'running', 'queued', now, 0)
    ids[#ids + 1] = id
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'retrying', '-inf', text(now), 'LIMIT', 0, limit)) do
  move(id, 'retrying', 'queued', now, 0)
  ids[#ids + 1] = id
end
local horizon = ARGV[5] == '1' and now or tonumber(redis.call('GET', p .. 'horizon') or 0)
local missing = redis.call('ZRANGEBYSCORE', p .. 'queued', '-inf', text(horizon - tonumber(ARGV[4])), 'LIMIT', 0, limit)
for _, id in ipairs(missing) do
  redis.call('ZADD', p .. 'queued', text(now), id)
  ids[#ids + 1] = id
end
for _, state in ipairs({'failed', 'unprocessable'}) do
  redis.call('ZREMRANGEBYSCORE', p .. state, '-inf', text(now - tonumber(ARGV[6])))
end
return {ids, lost, dead, #missing}
"""
)
