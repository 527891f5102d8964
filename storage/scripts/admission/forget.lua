-- Drops what subjects have spent, so that the next request asks the ledger. ARGV: names of subjects.
for _, name in ipairs(ARGV) do redis.call('HDEL', PREFIX .. name, 'ds', 'ms') end
return #ARGV
