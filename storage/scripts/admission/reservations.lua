-- What the scripts share that work on a tenant's keys. `api/admission/model.py` says what they must do.
--
-- KEYS[1] is the prefix `stoker:{TENANT}:` of every key that is touched, so that all lie in one hash slot:
--   leases        sorted set: reservation -> end of its lease, ms
--   records       hash: reservation -> "SECOND TOKENS NANO_USD DAY MONTH ADOPTED [SUBJECT FLAGS]..."; ADOPTED: when a
--                 worker admitted it alone, ms, or 0
--   done:ID       an adopted reservation has ended; guards against adopting it twice
--   generations   hash: key id -> generation
--   KIND:ID       hash of a subject: r, t requests and tokens left in the bucket, in 1/60000, and ra, ta when that was, ms;
--                 p reservations under way; d, m the day and month that the money is of, dh, mh held, ds, ms spent
--                 (absent: ask the ledger), dw, mw when the ledger was asked last, ms, dl, ml settled since the period
--                 began, dq, mq set while what was spent is in doubt, df, mf the least of dl, ml at which an answer of the
--                 ledger must have been asked for; x the day its life was last prolonged
--   KIND:ID:r, :t hash of a sliding minute: second -> requests or tokens
-- A record's FLAGS say what was taken: r, t from the bucket, R, T from the sliding minute, p, d, m.
-- Numbers of Lua are exact up to 2^53, and whole ones reach Redis whole; `api/admission/meters.py` keeps limits below.
local PREFIX = KEYS[1]
local LEASES, RECORDS, DONE = PREFIX .. 'leases', PREFIX .. 'records', PREFIX .. 'done:'
local SETTLED, RELEASED, OVERDUE = 's', 'r', 'o'
local WINDOW_S, DONE_MS = 61, 600000

-- Removes a reservation. Returns the words of its record, or nil when there is none.
local function take_out(id)
  local record = redis.call('HGET', RECORDS, id)
  redis.call('ZREM', LEASES, id)
  if not record then return nil end
  redis.call('HDEL', RECORDS, id)
  local words = {}
  for word in string.gmatch(record, '%S+') do words[#words + 1] = word end
  return words
end

-- Adds what was spent. In doubt, for some of it may be counted already, the ledger is asked before anybody is refused.
local function spend(key, flag, nano, doubt)
  redis.call('HINCRBY', key, flag .. 'l', nano)
  if redis.call('HEXISTS', key, flag .. 's') == 1 then
    redis.call('HINCRBY', key, flag .. 's', nano)
    if doubt then redis.call('HSET', key, flag .. 'q', 1) end
  end
end

-- Whether an adopted reservation may stand in the ledger since before that was asked.
local function loaded_since(key, flag, adopted)
  return adopted > 0 and tonumber(redis.call('HGET', key, flag .. 'w') or 0) >= adopted - SLACK_MS
end

-- Undoes what a reservation took: a settled one keeps what was used, a released one nothing; an overdue one gives
-- back its place and its money, but neither request nor tokens, for its worker may have used them.
local function give_back(words, verb, tokens, nano, now)
  local second, asked_tokens, asked_nano = tonumber(words[1]), tonumber(words[2]), tonumber(words[3])
  for i = 7, #words, 2 do
    local key = PREFIX .. words[i]
    for flag in string.gmatch(words[i + 1], '.') do
      if flag == 'p' then
        redis.call('HINCRBY', key, 'p', -1)
      elseif flag == 'd' or flag == 'm' then
        if redis.call('HGET', key, flag) == (flag == 'd' and words[4] or words[5]) then
          if asked_nano > 0 then redis.call('HINCRBY', key, flag .. 'h', -asked_nano) end
          if verb == SETTLED then spend(key, flag, nano, loaded_since(key, flag, tonumber(words[6]))) end
        end
      elseif verb ~= OVERDUE then
        local unused
        if flag == 'r' or flag == 'R' then unused = verb == RELEASED and 1 or 0 else unused = asked_tokens - tokens end
        if unused ~= 0 then
          if flag == 'r' or flag == 't' then
            redis.call('HINCRBY', key, flag, unused * MINUTE_MS)
          elseif redis.call('HEXISTS', key .. ':' .. string.lower(flag), words[1]) == 1
              and second > math.floor(now / 1000) - WINDOW_S then
            redis.call('HINCRBY', key .. ':' .. string.lower(flag), words[1], -unused)
          end
        end
      end
    end
  end
end

-- Gives back at most `most` reservations whose lease has ended, the oldest first. Returns how many.
local function return_overdue(now, most)
  local ids = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local words = take_out(id)
    if words then give_back(words, OVERDUE, 0, 0, now) end
  end
  return #ids
end
