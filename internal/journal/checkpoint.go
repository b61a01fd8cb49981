package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nkeys"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// A checkpoint is due after so many entries, or with the first entry after so
// long, and at the end.
const (
	signEvery  = 10_000
	signWithin = time.Hour
)

// maxSigners bounds the keys of one journal: a station has one, and a new one
// once in a while.
const maxSigners = 100

// checkpoint is the body of a Checkpoint entry: the place of the entry before
// it, and who signed for that.
type checkpoint struct {
	Seq       uint64 `json:"seq"`
	Hash      string `json:"hash"`
	Signer    string `json:"signer"`    // a public NKey
	Signature []byte `json:"signature"` // Ed25519 over signedText
}

// signedText is what a checkpoint's signature is over.
func signedText(labName string, at lab.Ref) []byte {
	return fmt.Appendf(nil, "labgate checkpoint 1\n%s\n%d\n%s", labName, at.Seq, at.Hash)
}

// Signer is a key that signed checkpoints of a journal.
type Signer struct {
	Key         string `json:"key"`
	Checkpoints int    `json:"checkpoints"`
	Through     uint64 `json:"through"` // the newest entry that it signed for
}

// SignedBy says why a report's chain is not vouched for by a key, if so: the
// newest checkpoint must be signed by it, which is for all entries before.
func (r Report) SignedBy(key string) error {
	if !nkeys.IsValidPublicKey(key) {
		return fmt.Errorf("%.80q is no public key; one looks like U… with 56 letters and digits", key)
	}
	var by, newest Signer
	for _, s := range r.Signers {
		if s.Key == key {
			by = s
		}
		if s.Through >= newest.Through {
			newest = s
		}
	}
	switch {
	case by.Key == "":
		return fmt.Errorf("none of the journal's checkpoints is signed by %s: it is of another station, or was made anew", key)
	case newest.Key != key:
		return fmt.Errorf("the newest checkpoint, of entry %d, is signed by %s; %s signed up to entry %d only", newest.Through, newest.Key, key, by.Through)
	}
	return nil
}

// checkSigned takes an entry of a chain, and reports what is wrong where it is
// a checkpoint.
func (c *chainCheck) checkSigned(seq uint64, row []byte) (problem string) {
	if !bytes.Contains(row, []byte(`"kind":"`+chain.Checkpoint+`"`)) { // a body may say so, too
		return ""
	}
	var e lab.Entry
	if err := json.Unmarshal(row, &e); err != nil {
		return fmt.Sprintf("entry %d is no entry: %v", seq, err)
	}
	if e.Kind != chain.Checkpoint {
		return ""
	}
	var p checkpoint
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return fmt.Sprintf("the checkpoint at entry %d is none: %v", seq, err)
	}
	before := lab.Ref{Seq: c.Entries, Hash: c.Head}
	if p.Seq != before.Seq || p.Hash != before.Hash {
		return fmt.Sprintf("the checkpoint at entry %d signs for another entry than the one before it", seq)
	}
	if verifySigned(p.Signer, c.lab, before, p.Signature) != nil {
		return fmt.Sprintf("the checkpoint at entry %d is not signed by the key that it names", seq)
	}
	c.signed, c.signedTime = seq, e.Time
	for i := range c.Signers {
		if s := &c.Signers[i]; s.Key == p.Signer {
			s.Checkpoints, s.Through = s.Checkpoints+1, p.Seq
			return ""
		}
	}
	if len(c.Signers) == maxSigners {
		return fmt.Sprintf("more than %d keys signed it", maxSigners)
	}
	c.Signers = append(c.Signers, Signer{p.Signer, 1, p.Seq})
	return ""
}

func verifySigned(key, labName string, at lab.Ref, signature []byte) error {
	k, err := nkeys.FromPublicKey(key)
	if err != nil {
		return err
	}
	return k.Verify(signedText(labName, at), signature)
}

// signer makes the checkpoints. It belongs to the writer.
type signer struct {
	lab, key string
	sign     func([]byte) ([]byte, error)
	last     uint64    // the newest checkpoint, or 0
	since    time.Time // its time, or when the journal was opened
}

// newSigner tries the key, so that a wrong one shows at once. Without a key
// there is no signer.
func newSigner(o Options, rep Report, now time.Time) (*signer, error) {
	if o.Key == nil {
		return nil, nil
	}
	s := &signer{lab: o.Lab, since: now}
	var err error
	if s.key, s.sign, err = o.Key(); err != nil {
		return nil, err
	}
	if rep.signed > 0 {
		s.last, s.since = rep.signed, rep.signedTime
	}
	_, err = s.entry(lab.Ref{Hash: genesis(o.Lab)}, now)
	return s, err
}

// due reports whether what was written since the newest checkpoint wants one.
func (s *signer) due(head lab.Ref, now time.Time) bool {
	return s != nil && head.Seq > s.last && (head.Seq-s.last >= signEvery || now.Sub(s.since) >= signWithin)
}

// entry is the checkpoint that follows an entry.
func (s *signer) entry(head lab.Ref, now time.Time) (lab.Entry, error) {
	signature, err := s.sign(signedText(s.lab, head))
	if err == nil {
		err = verifySigned(s.key, s.lab, head, signature)
	}
	if err != nil {
		return lab.Entry{}, fmt.Errorf("the key %.60q does not sign checkpoints: %w", s.key, err)
	}
	body, err := json.Marshal(checkpoint{head.Seq, head.Hash, s.key, signature})
	return lab.Entry{Kind: chain.Checkpoint, Time: now, Origin: "journal", Body: body}, err
}

// signNow signs for all that is durable. It is the writer's.
func (j *Journal) signNow() {
	now, head := j.now(), j.Head()
	e, err := j.signer.entry(head, now)
	var rows []row
	if err == nil {
		rows, err = prepare([]lab.Entry{e})
	}
	if err != nil { // a key that signed before
		j.fail(errors.Join(errors.New("a checkpoint could not be signed"), err))
		return
	}
	j.signer.last, j.signer.since = head.Seq+1, now
	j.commitGroup([]request{{rows: rows}})
}

// now is the time by the journal's clock.
func (j *Journal) now() time.Time {
	if j.clock == nil {
		return time.Now()
	}
	return j.clock.Now()
}
