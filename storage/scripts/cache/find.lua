-- Finds an entry that nobody is to make. KEYS: 1 the entry. ARGV: 1 generations.
-- Returns {body, age in ms}, or nothing.
local entry = redis.call('HMGET', KEYS[1], 'body', 'marks', 'at')
if entry[1] and holds(ARGV[1], entry[2]) then return {entry[1], math.max(0, clock_ms() - tonumber(entry[3]))} end
return {}
