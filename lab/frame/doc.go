// Package frame turns values into the bytes of a serial line and back, as a
// profile says: templates of lines, the frames that replies come in, a
// device's error replies, and the profile's own test vectors.
//
// It promises that a value is written exactly or not at all: what the wire's
// format would change (a fifth digit, a fraction of a step) is refused with
// the nearest value that can be carried. It promises that a reply is taken
// whole and from the right address, or is an error. It never guesses, rounds,
// clamps or tries a second reading of the same bytes. It is pure: no I/O, no
// clock, no goroutine. Nothing in it is shared between calls except a compiled
// Codec and a Bound one, both of which are read-only and safe for concurrent
// use.
//
// # Templates
//
// A template is literal text with names in braces; "{{" and "}}" are braces.
//
// In a line that is sent, a name is an argument of the command, a setting of
// the instrument, or addr, the instrument's address:
//
//	{addr}     text as it is: addresses, texts and enums; printable ASCII only
//	{x:d}      a whole number
//	{addr:02d} a whole number of exactly two characters, padded with zeros
//	{v:f}      a plain decimal number, as many digits as it needs (at most ten significant)
//	{v:.2f}    a plain decimal number with exactly two decimals
//	{v:4g}     a plain decimal number with at most four digits, before and after the point together
//
// An argument is converted from the class's unit to the wire's, and divided by
// the size of a step; a setting is written in its own unit. No form has an
// exponent.
//
// In a reply, a name captures and {addr} must be the instrument's own:
//
//	{value}    text: at least one character, up to the first place where the next literal stands, or to the end
//	{value:c}  exactly one character; {status} alone means {status:c}
//	{value:d}  a whole number, blanks before it allowed
//	{value:02d} exactly two characters that are a whole number
//	{value:f}  a decimal number, as long as it goes, blanks before it and an exponent allowed
//
// A reply is read once, from left to right, and must be used up. So a text
// needs a literal or the end behind it, and a number none that could go on it.
//
// # Errors
//
// A profile's error texts are looked for where an answer begins: behind the
// address and, in a profile whose replies have a {status}, in place of the
// status or behind it; the longest text first. A text that ends in a digit is
// not followed by another one. What stands in place of the status is an alarm:
// it tells of the device, and answers no command.
package frame
