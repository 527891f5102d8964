-- Gives back overdue reservations, at most ARGV[1]. Returns how many.
return return_overdue(clock_ms(), tonumber(ARGV[1]))
