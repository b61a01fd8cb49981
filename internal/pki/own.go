package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"time"
)

const ownKeyBits = 2048 // what every policy from Basic256Sha256 up takes

// Identity is a certificate with its key.
type Identity struct {
	Certificate []byte // DER
	Key         *rsa.PrivateKey
	URI         string // the application's
}

// New says what a new certificate is for.
type New struct {
	Name  string   // the common name
	URI   string   // the application's; "" for a user's
	Hosts []string // names and IP addresses of this machine; none for a user's
	Now   time.Time
	Valid time.Duration
}

// Init makes the folders and this gateway's own key and certificate, signed by
// itself. It never writes over a key: ErrExist says that there is one.
func (s *Store) Init(n New) (Entry, error) {
	if err := s.make(); err != nil {
		return Entry{}, err
	}
	if u, err := url.Parse(n.URI); err != nil || u.Scheme == "" || len(n.URI) > maxText {
		return Entry{}, fmt.Errorf("%q is no application URI; as in urn:lab-pc:labgate", printable(n.URI, maxText))
	}
	if len(n.Hosts) == 0 {
		return Entry{}, errors.New("an application's certificate needs a host name")
	}
	return s.create(ownDir, certFileName, keyFileName, n)
}

var userRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// InitUser makes a key and certificate that log a user in at servers that trust
// it.
func (s *Store) InitUser(n New) (Entry, error) {
	if err := s.make(); err != nil {
		return Entry{}, err
	}
	if !userRE.MatchString(n.Name) {
		return Entry{}, fmt.Errorf("%q is no name of a user's files: letters, digits, dot, _ and -", printable(n.Name, maxText))
	}
	n.URI, n.Hosts = "", nil
	return s.create(usersDir, n.Name+".der", n.Name+".pem", n)
}

func (s *Store) create(dir, certFile, keyFile string, n New) (Entry, error) {
	for _, f := range []string{keyFile, certFile} {
		if _, err := os.Lstat(s.path(dir, f)); err == nil {
			return Entry{}, fmt.Errorf("%s: %w", s.path(dir, f), fs.ErrExist)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, ownKeyBits)
	if err != nil {
		return Entry{}, err
	}
	der, err := selfSign(key, n)
	if err != nil {
		return Entry{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Entry{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Entry{}, err
	}
	if err := writeNew(s.path(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})); err != nil {
		return Entry{}, err
	}
	if err := writeNew(s.path(dir, certFile), der); err != nil {
		return Entry{}, err
	}
	return entry(dir, certFile, cert), nil
}

func selfSign(key *rsa.PrivateKey, n New) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	id := sha1.Sum(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: n.Name, Organization: []string{"Labgate"}},
		NotBefore: n.Now.Add(-time.Hour).UTC(), NotAfter: n.Now.Add(n.Valid).UTC(),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, SubjectKeyId: id[:], AuthorityKeyId: id[:],
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	if n.URI != "" {
		u, err := url.Parse(n.URI)
		if err != nil {
			return nil, err
		}
		t.URIs = []*url.URL{u}
	}
	for _, h := range n.Hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
}

// Own is this gateway's certificate and key.
func (s *Store) Own(now time.Time) (Identity, error) {
	id, cert, err := s.identity(ownDir, certFileName, keyFileName, now)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("%s holds no certificate of this gateway yet: labgate pki init: %w", s.dir, err)
	}
	if err != nil {
		return Identity{}, err
	}
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("%s has no application URI", s.path(ownDir, certFileName))
	}
	id.URI = cert.URIs[0].String()
	return id, nil
}

// User is a user's certificate and key.
func (s *Store) User(name string, now time.Time) (Identity, error) {
	if !userRE.MatchString(name) {
		return Identity{}, fmt.Errorf("%q is no name of a user's files", printable(name, maxText))
	}
	id, _, err := s.identity(usersDir, name+".der", name+".pem", now)
	return id, err
}

func (s *Store) identity(dir, certFile, keyFile string, now time.Time) (Identity, *x509.Certificate, error) {
	certs, err := readCertificates(s.path(dir, certFile))
	if err != nil {
		return Identity{}, nil, err
	}
	cert := certs[0]
	if refusal := strong(cert); refusal != nil {
		return Identity{}, nil, fmt.Errorf("%s: %s", s.path(dir, certFile), refusal.Say)
	}
	if refusal := inTime(cert, now); refusal != nil {
		return Identity{}, nil, fmt.Errorf("%s: %s", s.path(dir, certFile), refusal.Say)
	}
	key, err := readKey(s.path(dir, keyFile))
	if err != nil {
		return Identity{}, nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return Identity{}, nil, fmt.Errorf("%s is not the key of %s", s.path(dir, keyFile), certFile)
	}
	return Identity{Certificate: cert.Raw, Key: key}, cert, nil
}

func readKey(path string) (*rsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, fmt.Errorf("%s may be read by others than its owner: chmod 600 it, and make another if somebody has read it", path)
	}
	b, err := readBounded(path, maxCertFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is no key in PEM", path)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s is no RSA key in PEM (PKCS #8 or PKCS #1, without a password)", path)
	}
	return rsaKey, nil
}
