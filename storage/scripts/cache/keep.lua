-- Keeps an entry, unless what it carries was purged while it was made, and ends its flight.
-- KEYS: 1 the entry. ARGV: 1 generations, 2 flight, 3 token, 4 index, 5 the most bytes of a tenant, 6 ttl in ms, 7 marks, 8 body.
-- The index's score is the time at which an entry ends; its members are "BYTES KEY".
-- Returns how many others had to go, or -1: it was not kept.
if redis.call('GET', ARGV[2]) == ARGV[3] then redis.call('DEL', ARGV[2]) end
if not holds(ARGV[1], ARGV[7]) then return -1 end
local now, index, sum = clock_ms(), ARGV[4], ARGV[4] .. ':bytes'
local before = redis.call('HGET', KEYS[1], 'member')
if before then strike(index, before) end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 100)) do strike(index, member) end
local size = #ARGV[8] + #KEYS[1]
local member = size .. ' ' .. KEYS[1]
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'body', ARGV[8], 'marks', ARGV[7], 'at', now, 'member', member)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('ZADD', index, now + tonumber(ARGV[6]), member)
local held, gone = redis.call('INCRBY', sum, size), 0
while held > tonumber(ARGV[5]) do
  local first = redis.call('ZRANGE', index, 0, 0)[1]
  if not first then break end
  strike(index, first)
  redis.call('DEL', string.match(first, '^%d+ (.*)$'))
  held, gone = tonumber(redis.call('GET', sum)), gone + 1
end
return gone
