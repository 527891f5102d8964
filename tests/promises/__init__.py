"""What Stoker promises, and the proof that the tests would notice if it did not keep it: `./stoker test --promises`."""
