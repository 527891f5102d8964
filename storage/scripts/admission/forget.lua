-- forget
-- Drops what subjects have spent, so that the next request asks the ledger. ARGV: names of subjects.
-- An answer of the ledger that is on its way does not count.
for _, name in ipairs(ARGV) do
  for _, letter in ipairs({'d', 'm'}) do
    if redis.call('HEXISTS', PREFIX .. name, letter) == 1 then
      redis.call('HDEL', PREFIX .. name, letter .. 's')
      local late = redis.call('HINCRBY', PREFIX .. name, letter .. 'l', 1)
      redis.call('HSET', PREFIX .. name, letter .. 'f', late)
    end
  end
end
return #ARGV
