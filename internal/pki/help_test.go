package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	host = "reactor.lab"
	uri  = "urn:reactor.lab:server"
)

func want() Want { return Want{Host: host, URI: uri, Now: now} }

// keys are made once: they cost more than all the tests.
var keys = struct {
	sync.Mutex
	of map[string]*rsa.PrivateKey
}{of: map[string]*rsa.PrivateKey{}}

func key(t testing.TB, name string, bits int) *rsa.PrivateKey {
	t.Helper()
	keys.Lock()
	defer keys.Unlock()
	if keys.of[name] == nil {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		keys.of[name] = k
	}
	return keys.of[name]
}

// party is somebody with a key and a certificate.
type party struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

var serials int64

// issue makes a certificate; by nil, its owner signs it. change may alter what
// is in it.
func issue(t testing.TB, name string, by *party, change func(*x509.Certificate)) *party {
	t.Helper()
	serials++
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serials), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{host}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7)}, URIs: []*url.URL{u},
	}
	if change != nil {
		change(c)
	}
	p := &party{key: key(t, name, 2048)}
	parent, signer := c, p.key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &p.key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

// authority is a certificate that may sign others.
func authority(t testing.TB, name string, by *party) *party {
	return issue(t, name, by, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
		c.DNSNames, c.IPAddresses, c.URIs = nil, nil, nil
	})
}

// list is an authority's list of revoked certificates.
func list(t testing.TB, by *party, change func(*x509.RevocationList), revoked ...*party) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -1), NextUpdate: now.AddDate(0, 0, 7)}
	for _, p := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: p.cert.SerialNumber, RevocationTime: now.AddDate(0, 0, -2)})
	}
	if change != nil {
		change(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func store(t testing.TB) *Store { return At(filepath.Join(t.TempDir(), "pki")) }

func (s *Store) put(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func chainOf(parties ...*party) (der []byte) {
	for _, p := range parties {
		der = append(der, p.cert.Raw...)
	}
	return der
}
