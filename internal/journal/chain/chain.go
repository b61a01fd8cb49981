// Package chain is what makes a journal's entries hang together: the one JSON
// form of an entry, and the hash of each over the one before it.
//
// It promises that the same entry has the same bytes everywhere, and that
// nothing in a chain can be changed, left out or moved without the hashes after
// it changing. It knows no file and no database; it is pure.
package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"labgate/lab"
)

// MaxEntry bounds the bytes of one entry as canonical JSON; larger values lie
// beside the journal.
const MaxEntry = 2 << 20

// Sum is the hash of an entry: over the hash before it, in hex, a line end, and
// the entry's canonical bytes. The first entry follows Genesis.
func Sum(before string, row []byte) [sha256.Size]byte {
	b := make([]byte, 0, len(before)+1+len(row))
	b = append(append(append(b, before...), '\n'), row...)
	return sha256.Sum256(b)
}

// Follow is the place of an entry after another, with its hash.
func Follow(head lab.Ref, row []byte) (lab.Ref, [sha256.Size]byte) {
	sum := Sum(head.Hash, row)
	return lab.Ref{Seq: head.Seq + 1, Hash: hex.EncodeToString(sum[:])}, sum
}

// Genesis is the hash before the first entry: it binds the chain to its lab and
// layout.
func Genesis(layout int, labName string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "labgate journal %d %s", layout, labName))
	return hex.EncodeToString(h[:])
}

// brief makes a text fit to be shown: UTF-8, and at most 200 bytes.
func brief(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 200)], "?")
}
