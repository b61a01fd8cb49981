// Package configs turns the bytes of configuration files into classes,
// profiles and labs, and refuses what it does not fully understand.
//
// It promises that what it returns is complete and consistent: every name
// resolves, every expression compiles, every unit fits, every property and
// command of a class is mapped to the wire, every test vector of a serial
// profile holds, and no two instruments share an address. It reports every
// problem at once, each with file, line, column and a hint, and with any
// problem it returns nothing to run on. It never guesses, clamps, rounds or
// drops a key.
//
// It reads only from the fs.FS that it is handed and from the files built into
// the program. It connects to nothing, reads no clock and starts no goroutine.
package configs

import (
	"embed"
	"io/fs"
)

//go:embed classes profiles labs
var embedded embed.FS

// Embedded is the set of files built into the program: classes/, profiles/ and
// labs/.
func Embedded() fs.FS { return embedded }
