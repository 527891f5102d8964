-- Goes on with a flight. KEYS: 1 the flight. ARGV: 1 token, 2 lease in ms.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
