// Package expr is the one expression language of Labgate, shared by protocol
// files, interlocks and classes: small, total, typed by dimension, and
// three-valued.
//
// It promises that an expression is checked once, when it is loaded, and then
// costs a known, bounded amount a time, without allocating, looping or
// failing; and that a known answer rests on known readings only. It never
// reads a clock, never does I/O and starts no goroutine. A Program is
// immutable and may be shared; a State belongs to one owner at a time.
//
// # Values
//
// Numbers carry a unit: 80 degC, 2s, 6 mL/min, 0.99. A unit follows its number
// directly; a "/" or "." between two unit atoms without any space belongs to
// the unit, so 6 mL/min is one literal and 2 mL / x is a division. Names are
// dotted paths that the Scope knows. true and false are conditions. A bare
// word beside == or != is one of the names of the enumeration on the other
// side: state == idle.
//
// Dimensions are checked at load. An absolute temperature (degC, degF) is a
// point on a scale: it may be compared, shifted by a difference (K) and
// subtracted from another, which gives K; it can't be scaled, negated or
// summed. Integers are dimensionless numbers; so are percentages, by value:
// 50 % == 0.5. A minus sign directly before a literal belongs to it: -5 degC.
//
// Arithmetic is done in the units as they are written, so that decimal
// fractions stay what they look like: a sum, difference, minimum, comparison
// or ratio of equal dimensions uses the unit of the left side (of the other
// one, where the left is a constant), a product with a plain number keeps the
// unit, temperatures use degC and K, anything else SI base units. There is no
// tolerance: a comparison compares.
//
// Operators, from loosest to tightest: or; and; not; < <= > >= == != (which
// don't chain); + -; * /; unary minus. Functions:
//
//	abs(x)  min(x, y, …)  max(x, y, …)
//	rate(x, 30 s)      slope of x over a window, per second
//	mean(x, 10 s)      time-weighted mean of x over a window
//	age(x)             how old the reading x is; known even where x is stale or bad
//	quality(x)         good, uncertain or bad, of a reading that is there and not stale
//	stuck_for(x, 10 s) the readings of x have been one and the same value for so long
//	held(c, 10 s)      c has been true without a break for so long
//	vote(2, a, b, c)   at least 2 of the conditions
//	voted(2, 5 K, a, b, c)  the value that at least 2 readings agree on within 5 K
//	tripped(group)     the group is latched
//
// # Unknown
//
// A reading that is missing, stale, not good, not finite, of the wrong type or
// of the wrong dimension is unknown, and so is a number made from it, a
// division by zero and an overflow. A comparison with an unknown number is
// Unknown. "false and unknown" is false, "true or unknown" is true, "not
// unknown" is unknown; vote is known where enough conditions are.
//
// # Windows
//
// rate, mean, held and stuck_for remember. Their memory is a State, sized at
// load and fed by Observe; a window is between 1 ms and 24 h and keeps at most
// 256 samples.
// Samples closer than w/250 are merged: for rate the newer one replaces the
// older, so that both ends of the slope are real readings and only the far end
// moves by up to w/250; for mean their areas are added, so that nothing is
// lost and only the far edge is that coarse. A sample carries the time of its
// reading, not the time it was seen. Time that runs backwards, or a new link
// epoch of any reading in it, empties a window.
//
// rate(x, w) is the slope between two real readings, the newest and the newest
// one that is at least w older: (new - old) / time between. Not a regression:
// a step shows in full at once, and the two readings can be named in a record.
// It is unknown unless x is known now, the newest sample is at most w old, and
// the two are between w/2 and 1.5 w apart.
//
// mean(x, w) is the area under straight lines between the samples divided by
// the time they cover. Time during which x was unknown is not covered. It is
// unknown unless x is known now, the newest sample is at most w old, and the
// time covered is between w/2 and 1.5 w.
//
// held(c, d) is Unknown while c is, and False while c is False. While c is
// True it is True if c was known to be True for the whole of the last d; else
// False if c was known to be False within it; else Unknown, as after a start
// or an outage.
//
// stuck_for(x, d) is Unknown while x is. It is True where the readings of x,
// without a break, have had exactly one value over at least d, from the first
// of them to the newest: readings that stay away are no sign of being stuck,
// they are unknown. Else it is False, also after a start, until so much was
// seen.
//
// # Agreement
//
// voted(need, within, a, b, …) looks for every set of at least need known
// values no two of which are further apart than within. The members of any
// such set are candidates; a value outside all of them is ignored, however
// good its quality. Everything made from the result is computed over the whole
// range from the smallest to the largest candidate, and a comparison is known
// only where it has the same answer over all of that range. Without agreement
// it is unknown. Two camps that contradict each other (2 of 4) both count, so
// an answer they differ on is unknown. This errs towards unknown, and unknown
// denies and trips.
//
// # Ranges
//
// TruthOver, NumberOver and RangeOver evaluate the same tree over ranges
// instead of readings. They overestimate: what they call Always or Never is so
// for every reading within the ranges.
package expr
