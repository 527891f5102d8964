-- Finds an entry, or says who is to make it.
-- KEYS: 1 the entry. ARGV: 1 generations, 2 flight, 3 token, 4 the flight's lease in ms, then the names it would carry.
-- Returns {'hit', body, age in ms}, {'lead', marks}: make it, {'wait'}: somebody does, {'alone'}: nobody waits.
local entry = redis.call('HMGET', KEYS[1], 'body', 'marks', 'at')
if entry[1] and holds(ARGV[1], entry[2]) then
  return {'hit', entry[1], math.max(0, clock_ms() - tonumber(entry[3]))}
end
local marks = {}
for at = 5, #ARGV do
  marks[#marks + 1] = ARGV[at] .. '=' .. (redis.call('HGET', ARGV[1], ARGV[at]) or '0')
end
marks = table.concat(marks, ' ')
if redis.call('SET', ARGV[2], ARGV[3], 'NX', 'PX', ARGV[4]) then return {'lead', marks} end
if redis.call('GET', ARGV[2]) == ALONE then return {'alone'} end
return {'wait'}
