package pki

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
	"unicode"
)

// The folders of a store.
const (
	ownDir      = "own"
	usersDir    = "users"
	trustedDir  = "trusted"
	issuersDir  = "issuers"
	rejectedDir = "rejected"
	crlDir      = "crl"
)

const (
	maxFiles     = 1000 // in one folder
	maxCertFile  = 64 << 10
	maxListFile  = 4 << 20
	maxRejected  = 50 // more servers than that knock only where somebody plays
	maxText      = 200
	certFileName = "certificate.der"
	keyFileName  = "private-key.pem"
)

// Store is a folder of certificates.
type Store struct{ dir string }

// At is the store in a folder, which need not exist yet.
func At(dir string) *Store { return &Store{dir: dir} }

// Dir is its folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Thumbprint names a certificate as OPC UA does: SHA-1 over its DER form. It is
// a name, never what trust is decided by: that compares whole certificates.
func Thumbprint(der []byte) string {
	sum := sha1.Sum(der)
	return hex.EncodeToString(sum[:])
}

// SHA256 is the thumbprint that nobody can make twice.
func SHA256(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// known reads trusted/, issuers/ and crl/. A file there that is no certificate
// gives no trust; a list that can't be read is remembered.
func (s *Store) known() (*known, error) {
	k := &known{}
	for _, f := range []struct {
		dir  string
		into *[]*x509.Certificate
	}{{trustedDir, &k.trusted}, {issuersDir, &k.issuers}} {
		names, err := s.files(f.dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			certs, err := readCertificates(s.path(f.dir, name))
			if err == nil {
				*f.into = append(*f.into, certs...)
			}
		}
	}
	names, err := s.files(crlDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		list, err := readList(s.path(crlDir, name))
		if err != nil {
			k.badList = fmt.Errorf("crl/%s is no revocation list", printable(name, maxText))
			continue
		}
		k.lists = append(k.lists, list)
	}
	return k, nil
}

// files lists a folder's files in order; one that is not there is empty.
func (s *Store) files(dir string) ([]string, error) {
	d, err := os.Open(s.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxFiles + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, fmt.Errorf("%s holds more than %d files", s.path(dir), maxFiles)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return b, err
}

// derOf is what a file in DER or PEM holds, one after the other.
func derOf(b []byte, kind string) []byte {
	var der []byte
	found := false
	for rest := b; ; {
		block, r := pem.Decode(rest)
		if block == nil {
			break
		}
		found, rest = true, r
		if block.Type == kind {
			der = append(der, block.Bytes...)
		}
	}
	if !found {
		return b
	}
	return der
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := readBounded(path, maxCertFile)
	if err != nil {
		return nil, err
	}
	certs, refusal := parseChain(derOf(b, "CERTIFICATE"))
	if refusal != nil {
		return nil, fmt.Errorf("%s: %s", path, refusal.Say)
	}
	return certs, nil
}

func readList(path string) (*x509.RevocationList, error) {
	b, err := readBounded(path, maxListFile)
	if err != nil {
		return nil, err
	}
	return x509.ParseRevocationList(derOf(b, "X509 CRL"))
}

// make makes the folders.
func (s *Store) make() error {
	for _, dir := range []string{ownDir, usersDir, trustedDir, issuersDir, rejectedDir, crlDir} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// reject keeps a copy for a human to look at; the oldest go where there are too
// many.
func (s *Store) reject(der []byte) error {
	if err := os.MkdirAll(s.path(rejectedDir), 0o700); err != nil {
		return err
	}
	file := Thumbprint(der) + ".der"
	if _, err := os.Stat(s.path(rejectedDir, file)); err == nil {
		return nil
	}
	names, err := s.files(rejectedDir)
	if err != nil {
		return err
	}
	if over := len(names) + 1 - maxRejected; over > 0 {
		age := map[string]time.Time{}
		for _, n := range names {
			if info, err := os.Stat(s.path(rejectedDir, n)); err == nil {
				age[n] = info.ModTime()
			}
		}
		sort.SliceStable(names, func(i, j int) bool { return age[names[i]].Before(age[names[j]]) })
		for _, n := range names[:over] {
			if err := os.Remove(s.path(rejectedDir, n)); err != nil {
				return err
			}
		}
	}
	return writeNew(s.path(rejectedDir, file), der)
}

// writeNew writes a file whole or not at all, and never over another.
func writeNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path) // fails where there is one
}

// IsThumbprint reports whether a text is a whole thumbprint, SHA-1 or SHA-256,
// in whatever way devices write it.
func IsThumbprint(s string) bool {
	b, err := hex.DecodeString(plain(s))
	return err == nil && (len(b) == sha1.Size || len(b) == sha256.Size)
}

func plain(thumbprint string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(thumbprint))
}

// Trust moves a certificate from rejected/ to trusted/, by either of its whole
// thumbprints.
func (s *Store) Trust(thumbprint string) (Entry, error) {
	want := plain(thumbprint)
	if !IsThumbprint(thumbprint) {
		return Entry{}, fmt.Errorf("%q is no thumbprint: 40 hexadecimal digits (SHA-1) or 64 (SHA-256), all of them", printable(thumbprint, maxText))
	}
	for _, dir := range []string{rejectedDir, trustedDir} {
		names, err := s.files(dir)
		if err != nil {
			return Entry{}, err
		}
		for _, name := range names {
			certs, err := readCertificates(s.path(dir, name))
			if err != nil || Thumbprint(certs[0].Raw) != want && SHA256(certs[0].Raw) != want {
				continue
			}
			if dir == trustedDir {
				return entry(trustedDir, name, certs[0]), nil // already
			}
			e, err := s.trust(certs[0])
			if err != nil {
				return Entry{}, err
			}
			return e, os.Remove(s.path(dir, name))
		}
	}
	return Entry{}, fmt.Errorf("no certificate in %s has the thumbprint %s: a server's comes there when it is refused", s.path(rejectedDir), want)
}

// TrustFile copies a certificate from a file to trusted/.
func (s *Store) TrustFile(path string) (Entry, error) {
	certs, err := readCertificates(path)
	if err != nil {
		return Entry{}, err
	}
	if len(certs) != 1 {
		return Entry{}, fmt.Errorf("%s holds %d certificates; trust them one by one", path, len(certs))
	}
	return s.trust(certs[0])
}

func (s *Store) trust(c *x509.Certificate) (Entry, error) {
	if refusal := strong(c); refusal != nil {
		return Entry{}, refusal
	}
	if err := os.MkdirAll(s.path(trustedDir), 0o700); err != nil {
		return Entry{}, err
	}
	name := Thumbprint(c.Raw) + ".der"
	if err := writeNew(s.path(trustedDir, name), c.Raw); err != nil && !errors.Is(err, fs.ErrExist) {
		return Entry{}, err
	}
	return entry(trustedDir, name, c), nil
}

// Entry is one certificate of the store, or a file that should be one.
type Entry struct {
	State      string // the folder: own, users, trusted, issuers, rejected or crl
	File       string // in that folder
	Thumbprint string
	SHA256     string
	Subject    string
	URI        string
	Hosts      string
	From, To   time.Time
	Bad        string // why it counts for nothing
}

func entry(state, file string, c *x509.Certificate) Entry {
	e := Entry{State: state, File: file, Thumbprint: Thumbprint(c.Raw), SHA256: SHA256(c.Raw), Subject: printable(c.Subject.String(), maxText), Hosts: hosts(c),
		From: c.NotBefore.UTC(), To: c.NotAfter.UTC()}
	if len(c.URIs) > 0 {
		e.URI = printable(c.URIs[0].String(), maxText)
	}
	if refusal := strong(c); refusal != nil {
		e.Bad = refusal.Say
	}
	return e
}

// List is everything in the store. Private keys are not shown.
func (s *Store) List() ([]Entry, error) {
	var list []Entry
	for _, dir := range []string{ownDir, usersDir, trustedDir, issuersDir, rejectedDir, crlDir} {
		names, err := s.files(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if (dir == ownDir || dir == usersDir) && filepath.Ext(name) == ".pem" {
				continue // a key
			}
			list = append(list, s.look(dir, name)...)
		}
	}
	return list, nil
}

func (s *Store) look(dir, name string) []Entry {
	shown := printable(name, maxText)
	if dir == crlDir {
		l, err := readList(s.path(dir, name))
		if err != nil {
			return []Entry{{State: dir, File: shown, Bad: "no revocation list: certificates with an issuer are refused until it is replaced"}}
		}
		return []Entry{{State: dir, File: shown, Subject: printable(l.Issuer.String(), maxText), From: l.ThisUpdate.UTC(), To: l.NextUpdate.UTC()}}
	}
	certs, err := readCertificates(s.path(dir, name))
	if err != nil {
		return []Entry{{State: dir, File: shown, Bad: "no certificate in DER or PEM"}}
	}
	var list []Entry
	for _, c := range certs {
		list = append(list, entry(dir, shown, c))
	}
	return list
}

// printable makes text of others harmless to show.
func printable(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > limit {
			return b.String() + "…"
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
