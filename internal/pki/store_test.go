package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

func ours() New {
	return New{Name: "labgate on lab-pc", URI: "urn:lab-pc:labgate", Hosts: []string{"lab-pc", "10.0.0.2"}, Now: now, Valid: 365 * 24 * time.Hour}
}

func TestInit(t *testing.T) {
	s := store(t)
	if _, err := s.Own(now); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "labgate pki init") {
		t.Errorf("before: %v", err)
	}
	e, err := s.Init(ours())
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.Own(now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(id.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if id.URI != "urn:lab-pc:labgate" || e.URI != id.URI || e.Thumbprint != Thumbprint(id.Certificate) || id.Key.N.BitLen() != 2048 {
		t.Errorf("identity %q, entry %+v", id.URI, e)
	}
	if e.Hosts != "lab-pc, 10.0.0.2" || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil || len(c.URIs) != 1 {
		t.Errorf("entry %+v", e)
	}
	const usage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageContentCommitment
	if c.KeyUsage&usage != usage || c.IsCA {
		t.Errorf("usage %b, authority %t", c.KeyUsage, c.IsCA)
	}
	for _, dir := range []string{ownDir, usersDir, trustedDir, issuersDir, rejectedDir, crlDir} {
		if info, err := os.Stat(s.path(dir)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
	if info, err := os.Stat(s.path(ownDir, keyFileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
}

// TestInitKeepsKey: a second Init, and one where only half is there, change
// nothing.
func TestInitKeepsKey(t *testing.T) {
	for _, missing := range []string{"", certFileName, keyFileName} {
		s := store(t)
		if _, err := s.Init(ours()); err != nil {
			t.Fatal(err)
		}
		if missing != "" {
			if err := os.Remove(s.path(ownDir, missing)); err != nil {
				t.Fatal(err)
			}
		}
		before := contents(t, s)
		if _, err := s.Init(ours()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("without %q: %v", missing, err)
		}
		if after := contents(t, s); before != after {
			t.Errorf("without %q: changed", missing)
		}
	}
}

func contents(t *testing.T, s *Store) string {
	names, err := s.files(ownDir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range names {
		data, err := os.ReadFile(s.path(ownDir, n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %x\n", n, data)
	}
	return b.String()
}

func TestInitRefuses(t *testing.T) {
	for name, n := range map[string]New{
		"no URI":      {Name: "x", Hosts: []string{"h"}},
		"a bare word": {Name: "x", URI: "labgate", Hosts: []string{"h"}},
		"no host":     {Name: "x", URI: "urn:x:y"},
	} {
		s := store(t)
		if _, err := s.Init(n); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got := contents(t, s); got != "" {
			t.Errorf("%s: left %s", name, got)
		}
	}
}

// TestOwnRefuses: an identity that servers would refuse, or that others can
// read, is not used.
func TestOwnRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*Store) error
		now  time.Time
		say  string
	}{
		{"the key may be read by others", func(s *Store) error { return os.Chmod(s.path(ownDir, keyFileName), 0o640) }, now, "chmod 600"},
		{"another's key", func(s *Store) error {
			o := At(s.dir + "2")
			if _, err := o.Init(ours()); err != nil {
				return err
			}
			return os.Rename(o.path(ownDir, keyFileName), s.path(ownDir, keyFileName))
		}, now, "is not the key of"},
		{"no key", func(s *Store) error { return os.WriteFile(s.path(ownDir, keyFileName), []byte("x"), 0o600) }, now, "no key in PEM"},
		{"expired", func(*Store) error { return nil }, now.AddDate(2, 0, 0), "was valid until"},
	} {
		s := store(t)
		if _, err := s.Init(ours()); err != nil {
			t.Fatal(err)
		}
		if err := c.do(s); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Own(c.now); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestUser(t *testing.T) {
	s := store(t)
	if _, err := s.InitUser(New{Name: "../own/private-key", Now: now, Valid: time.Hour}); err == nil {
		t.Error("a name that is a path was accepted")
	}
	if _, err := s.InitUser(New{Name: "operator", Now: now, Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.InitUser(New{Name: "operator", Now: now, Valid: time.Hour}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	id, err := s.User("operator", now)
	if err != nil || len(id.Certificate) == 0 {
		t.Errorf("%v", err)
	}
	if _, err := s.User("../own/private-key", now); err == nil {
		t.Error("a path was read")
	}
}

func TestTrust(t *testing.T) {
	server := issue(t, "server", nil, nil)
	der := server.cert.Raw
	for name, thumb := range map[string]string{
		"SHA-1":              Thumbprint(der),
		"SHA-256":            SHA256(der),
		"as devices show it": strings.ToUpper(Thumbprint(der)[:2] + ":" + Thumbprint(der)[2:]),
	} {
		s := store(t)
		if _, err := s.Verify(der, want()); ReasonOf(err) != Untrusted {
			t.Fatalf("%s: %v", name, err)
		}
		if e, err := s.Trust(thumb); err != nil || e.State != trustedDir || e.Thumbprint != Thumbprint(der) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		if got, err := s.Verify(der, want()); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: after that %v", name, err)
		}
		if left, err := s.files(rejectedDir); err != nil || len(left) != 0 {
			t.Errorf("%s: still in rejected: %v, %v", name, left, err)
		}
		if _, err := s.Trust(thumb); err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
	}
	s := store(t)
	if _, err := s.Verify(der, want()); err == nil {
		t.Fatal("accepted")
	}
	for _, bad := range []string{"", "zz", Thumbprint(der)[:8], Thumbprint(der)[:38], Thumbprint([]byte("other")), "../../etc/passwd"} {
		if _, err := s.Trust(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
	if list, err := s.files(trustedDir); err != nil || len(list) != 0 {
		t.Errorf("trusted: %v, %v", list, err)
	}
}

func TestTrustFile(t *testing.T) {
	s := store(t)
	server, small := issue(t, "server", nil, nil), selfSignedBy(t, key(t, "small", 1024))
	s.put(t, "elsewhere", "one.pem", asPEM(server))
	s.put(t, "elsewhere", "two.pem", append(asPEM(server), asPEM(server)...))
	s.put(t, "elsewhere", "small.der", small)
	if _, err := s.TrustFile(s.path("elsewhere", "one.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(server.cert.Raw, want()); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"two.pem", "small.der", "none.der"} {
		if _, err := s.TrustFile(s.path("elsewhere", bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// TestRejectedIsBounded: whoever knocks with ever new certificates fills no
// disk; the newest stay.
func TestRejectedIsBounded(t *testing.T) {
	s := store(t)
	var last *party
	for range maxRejected + 5 {
		last = issue(t, "server", nil, nil)
		if _, err := s.Verify(last.cert.Raw, want()); ReasonOf(err) != Untrusted {
			t.Fatal(err)
		}
	}
	names, err := s.files(rejectedDir)
	if err != nil || len(names) != maxRejected {
		t.Errorf("%d files, %v", len(names), err)
	}
	if _, err := s.Trust(Thumbprint(last.cert.Raw)); err != nil {
		t.Error("the last one that knocked is gone: ", err)
	}
}

func TestList(t *testing.T) {
	s := store(t)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("nothing: %v, %v", list, err)
	}
	if _, err := s.Init(ours()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.InitUser(New{Name: "operator", Now: now, Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	root := authority(t, "root\x1b[2J", nil)
	s.put(t, issuersDir, "root.pem", asPEM(root))
	s.put(t, crlDir, "root.crl", list(t, root, nil))
	s.put(t, crlDir, "x.crl", []byte("x"))
	s.put(t, trustedDir, "x.der", []byte("x"))
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprintf("%s/%s %s %q %t", e.State, e.File, e.URI, e.Subject, e.Bad != ""))
	}
	const is = `own/certificate.der urn:lab-pc:labgate "CN=labgate on lab-pc,O=Labgate" false
users/operator.der  "CN=operator,O=Labgate" false
trusted/x.der  "" true
issuers/root.pem  "CN=root?[2J" false
crl/root.crl  "CN=root?[2J" false
crl/x.crl  "" true`
	if text := strings.Join(got, "\n"); text != is {
		t.Errorf("got\n%s\nwant\n%s", text, is)
	}
}

func TestTooManyFiles(t *testing.T) {
	s := store(t)
	s.put(t, trustedDir, "0", nil)
	for i := range maxFiles {
		if err := os.Link(s.path(trustedDir, "0"), s.path(trustedDir, fmt.Sprint(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Verify(issue(t, "server", nil, nil).cert.Raw, want()); err == nil || ReasonOf(err) != "" {
		t.Errorf("got %v", err)
	}
}
