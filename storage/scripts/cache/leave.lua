-- Ends a flight of which nothing was kept.
-- KEYS: 1 the flight. ARGV: 1 token, 2 for how many ms nobody shall wait for another one; 0: the next may try.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ALONE, 'PX', ARGV[2])
return 1
