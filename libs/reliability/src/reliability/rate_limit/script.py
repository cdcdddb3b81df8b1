"""The script that decides every limit of a request inside the server, by the server's clock."""

import hashlib
from collections.abc import Sequence
from typing import Final

from reliability.rate_limit.policy import Algorithm, Policy
from reliability.rate_limit.standing import Standing
from reliability.redis import Cache, Script

__all__ = ["decide", "key_of", "windowed"]

# ARGV: the cost, then three of each key. "f", quota, window (ms); or "g", interval, capacity (us). In the shadow: F, G.
# Answers four of each key: whether it admits, units left, microseconds until there are more, and until this may pass.
#
# Fixed windows first, and each increments before it compares. INCR and EXPIRE as two calls can leave a key that never
# expires, and a window made shorter leaves one that expires too late: both are repaired whenever they are seen.
#
# GCRA keeps one instant per key, the theoretical arrival time (ITU-T I.371): when everything spent so far has come
# back. It is more than the capacity ahead only when the clock was set back or the policy was changed: then it is cut,
# or nobody would be let in until the clock had caught up. Lua writes 16 digits in %.14g, so instants are formatted.
_SCRIPT: Final = Script("""
local cost, all, now = tonumber(ARGV[1]), true, nil
local answer, seen = {}, {}
for i, key in ipairs(KEYS) do
  local kind, first, second = ARGV[3 * i - 1], tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local admits, left, reset, wait
  if kind == 'f' or kind == 'F' then
    local quota, window = first, second
    local count = redis.call('INCRBY', key, ARGV[1])
    local ttl = redis.call('PTTL', key)
    if ttl < 0 or ttl > window then redis.call('PEXPIRE', key, window); ttl = window end
    admits, left, reset = count <= quota, math.max(0, quota - count), ttl * 1000
    wait = reset
  else
    if not now then
      local time = redis.call('TIME')
      now = time[1] * 1000000 + time[2]
    end
    local interval, capacity = first, second
    local stored = tonumber(redis.call('GET', key) or now) or now
    local arrival = math.min(math.max(stored, now), now + capacity)
    wait = math.min(arrival + cost * interval - now - capacity, capacity)
    admits, seen[i] = wait <= 0, {interval, capacity, arrival, stored > arrival}
  end
  if kind == 'f' or kind == 'g' then all = all and admits end
  local at = 4 * i - 3
  answer[at], answer[at + 1], answer[at + 2], answer[at + 3] = admits and 1 or 0, left, reset, admits and 0 or wait
end
for i, state in pairs(seen) do
  local interval, capacity, arrival, repair = state[1], state[2], state[3], state[4]
  local charge = all and answer[4 * i - 3] == 1
  if charge then arrival = arrival + cost * interval end
  if charge or repair then
    local life = math.max(1, math.ceil((arrival - now) / 1000))
    redis.call('SET', KEYS[i], string.format('%.0f', arrival), 'PX', string.format('%.0f', life))
  end
  local left = math.floor((capacity - (arrival - now)) / interval)
  answer[4 * i - 2] = left
  answer[4 * i - 1] = arrival > now and arrival - now - capacity + (left + 1) * interval or 0
end
return answer
""")

_LONG: Final = 128


def windowed(policy: Policy) -> bool:
    """Whether a counter decides. A quota of 0 has no interval, and refuses the same either way."""
    return policy.algorithm is Algorithm.FIXED_WINDOW or not policy.quota


def key_of(policy: Policy, subject: str) -> str:
    """Where the subject's count is. The two algorithms keep apart: one's state means nothing to the other.

    A long subject is hashed: whoever makes them up shall not fill the memory.
    """
    if len(subject) > _LONG or not subject.isascii():
        subject = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{'rate' if windowed(policy) else 'gcra'}:{policy.name}:{subject}"


async def decide(cache: Cache, keys: Sequence[str], policies: Sequence[Policy], cost: int) -> list[Standing]:
    """Counts one request of `cost` units against every key, in one round trip. Raises `CacheUnavailable`."""
    arguments: list[str | int] = [cost]
    for policy in policies:
        if windowed(policy):
            arguments += ("F" if policy.shadow else "f", policy.quota, policy.window * 1000)
        else:
            interval = policy.interval
            arguments += ("G" if policy.shadow else "g", interval, interval * policy.at_once)
    flat: list[int] = await cache.script("rate limit", _SCRIPT, keys, arguments)
    fours = zip(policies, flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    return [Standing(policy, admits == 1, left, reset, wait) for policy, admits, left, reset, wait in fours]
