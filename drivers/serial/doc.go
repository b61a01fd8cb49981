// Package serial speaks to the instruments of one serial line, as their
// profiles say.
//
// It promises that a line carries one exchange at a time and never two
// messages without the answer, or the silence, between them; that a late
// reply, a half one, noise or another instrument's reply never answers a
// command; that no byte of an effect leaves without a permit spent directly
// before it; that nothing but a safe command is ever sent twice; that one
// silent instrument costs the others at most one timeout now and then; and
// that a write that does not move is given up, the line reopened, the stop
// first.
//
// It never decides, retries an effect, guesses at an answer or keeps a value:
// what was not read now is a bad sample. It trusts what the device says of
// itself in one case only: the profile's device_reset, upon which the
// instrument begins a new epoch and its init is sent again.
//
// A Link has no goroutines of its own. Its owner's goroutine does all the
// work; Close may come from another and ends what is under way. Reads and
// writes wait in the runtime's poller with real deadlines, so none can hang.
//
// A line is claimed with an advisory lock on the device itself: a second owner,
// in this process or another, is refused.
package serial
