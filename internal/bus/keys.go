package bus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"

	"labgate/lab"
)

// NewKey makes an NKey of a user: its seed, to be kept secret, and its public
// key, to be listed.
func NewKey() (seed []byte, public string, err error) {
	kp, err := nkeys.CreateUser()
	if err == nil {
		seed, err = kp.Seed()
	}
	if err == nil {
		public, err = kp.PublicKey()
	}
	if err != nil {
		return nil, "", lab.E("bus: new key", "", lab.KindInternal, err)
	}
	return seed, public, nil
}

// PublicKey is the public key of a user's seed.
func PublicKey(seed []byte) (string, error) {
	const op = "bus: key"
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", lab.E(op, "", lab.KindInvalid, err)
	}
	public, err := kp.PublicKey()
	if err == nil && !nkeys.IsValidPublicUserKey(public) {
		err = errors.New("the key is not a user's")
	}
	if err != nil {
		return "", lab.E(op, "", lab.KindInvalid, err)
	}
	return public, nil
}

// SignerOf is the public key of a user's seed, and what signs by it.
func SignerOf(seed []byte) (public string, sign func([]byte) ([]byte, error), err error) {
	if public, err = PublicKey(seed); err != nil {
		return "", nil, err
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", nil, lab.E("bus: key", "", lab.KindInvalid, err)
	}
	return public, kp.Sign, nil
}

// SaveSeed writes a new key file that only its owner can read. It does not
// replace one that is there.
func SaveSeed(path string, seed []byte) error {
	const op = "bus: save key"
	if _, err := PublicKey(seed); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return lab.E(op, "", lab.KindConflict, err)
	}
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	_, err = f.Write(append(append([]byte(nil), seed...), '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return lab.E(op, "", lab.KindUnavailable, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// LoadSeed reads a key file. One that others can read is refused: its key is
// no secret.
func LoadSeed(path string) ([]byte, error) {
	const op = "bus: load key"
	st, err := os.Stat(path)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, lab.E(op, "", lab.KindDenied, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it, or make a new key", path, st.Mode().Perm()))
	}
	if st.Size() > 1024 {
		return nil, lab.E(op, "", lab.KindInvalid, fmt.Errorf("%s is no key file", path))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	seed := bytes.TrimSpace(b)
	if _, err := PublicKey(seed); err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, fmt.Errorf("%s is no key file: %w", path, err))
	}
	return seed, nil
}
