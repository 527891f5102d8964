-- What all scripts of admission share: what they answer, spans of time, and the calendar.
local OK, REFUSED, LATE, STALE, MISSING, OLD = 0, 1, 2, 3, 4, 5
local MINUTE_MS, DAY_MS, SLACK_MS = 60000, 86400000, 1000
local KEEP_MS = 40 * DAY_MS

-- Months since year 0 of a day since 1970. Source: Howard Hinnant, chrono-compatible low-level date algorithms.
local function month_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local shifted = math.floor((5 * doy + 2) / 153)
  local month = shifted < 10 and shifted + 3 or shifted - 9
  return (yoe + era * 400 + (month <= 2 and 1 or 0)) * 12 + month - 1
end
