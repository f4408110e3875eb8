"""The scripts that run inside Redis: each is one atomic step.

An episode is a hash. `#e` is the epoch in which it was written, `#h` the base, `#t` the TTL in
seconds, `#s` the bytes of its entries, `#c` is there when it is closed, `#g` when it was forgotten;
every other field is an entry. One of an older epoch may lack writes, and counts as absent.
"""

from typing import Final

# KEYS: for each write the episode and its lease. ARGV: epoch, most bytes, most fields, then for
# each write its mode (o, c, x or a), entry id, value, TTL.
WRITE: Final = """
local landed = {}
for i = 1, #KEYS / 2 do
  local key, lease, at = KEYS[2 * i - 1], KEYS[2 * i], 4 * i
  local mode, field, value, ttl = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local now = redis.pcall('HMGET', key, '#e', '#g', '#c', '#s', '#t', field)
  if now.err or now[1] ~= ARGV[1] then
    if now.err or now[1] then redis.call('UNLINK', key) end
    redis.call('DEL', lease)
    if mode == 'o' then
      redis.call('HSET', key, '#e', ARGV[1], '#h', value, '#t', ttl, '#s', 0)
      redis.call('EXPIRE', key, ttl)
      landed[i] = 1
    else
      landed[i] = -1
    end
  elseif now[2] then
    landed[i] = -4
  elseif mode == 'o' or now[6] then
    landed[i] = 0
  elseif now[3] and mode ~= 'x' then
    landed[i] = mode == 'c' and 0 or -2
  else
    local size = tonumber(now[4] or 0) + #value
    if size > tonumber(ARGV[2]) or redis.call('HLEN', key) >= tonumber(ARGV[3]) then
      landed[i] = -3
    else
      local lives = now[5] or ttl
      if mode == 'x' and tonumber(ttl) > tonumber(lives) then lives = ttl end
      redis.call('HSET', key, field, value, '#s', size, '#t', lives)
      if mode == 'c' then redis.call('HSET', key, '#c', 1) end
      redis.call('EXPIRE', key, lives)
      landed[i] = 1
    end
  end
end
return landed
"""

# KEYS: episode, lease. ARGV: token, TTL, then field, value and so on.
FILL: Final = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1], KEYS[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS: episode, lease. ARGV: epoch, TTL.
BURY: Final = """
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], '#e', ARGV[1], '#g', 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
