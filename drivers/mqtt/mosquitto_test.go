package mqtt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/drivers"
	"labgate/internal/pki"
	"labgate/lab"
)

// mosquitto is Debian's broker, in a process of its own.
type mosquitto struct{ ports map[string]int }

var portName = regexp.MustCompile(`\{([a-z]+)\}`)

// startMosquitto starts it with a configuration in which {name} is a free port.
func startMosquitto(t testing.TB, config string) *mosquitto {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	if err != nil {
		t.Skip("there is no mosquitto: apt-get install mosquitto")
	}
	m := &mosquitto{ports: map[string]int{}}
	config = portName.ReplaceAllStringFunc(config, func(s string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		m.ports[s[1:len(s)-1]] = l.Addr().(*net.TCPAddr).Port
		return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	})
	path := filepath.Join(t.TempDir(), "mosquitto.conf")
	// It would give up being root for a user who can't read the test's folder.
	if err := os.WriteFile(path, []byte("user root\nper_listener_settings true\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "-c", path)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", &said)
		}
	})
	for name := range m.ports {
		for late := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			c, err := net.Dial("tcp", m.address(name))
			if err == nil {
				_ = c.Close()
				break
			}
			if time.Now().After(late) {
				t.Fatalf("mosquitto does not listen on %s: %v", m.address(name), err)
			}
		}
	}
	return m
}

func (m *mosquitto) address(name string) string { return fmt.Sprintf("127.0.0.1:%d", m.ports[name]) }

// authority issues brokers' certificates.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.make("ca", &x509.Certificate{Subject: pkix.Name{CommonName: "a test's authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)})
	return a
}

// make writes NAME.pem and NAME.key.
func (a *authority) make(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-24*time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	var made *x509.Certificate
	if err == nil {
		made, err = x509.ParseCertificate(der)
	}
	var secret []byte
	if err == nil {
		secret, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err == nil {
		err = errors.Join(a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", secret))
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

func (a *authority) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (a *authority) server(name, host string, until time.Time) {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	a.make(name, c)
}

// Who a broker is and who we are: with mosquitto, by TLS, passwords and
// certificates, right and wrong ones.
func TestTrust(t *testing.T) {
	a := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	a.server("good", "127.0.0.1", soon)
	a.server("expired", "127.0.0.1", time.Now().Add(-time.Minute))
	a.server("elsewhere", "broker.lab.example", soon)
	store := pki.At(filepath.Join(a.dir, "pki"))
	if _, err := store.InitUser(pki.New{Name: "edge", Now: time.Now(), Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	me, err := store.User("edge", time.Now())
	if err == nil {
		err = a.write("clients.pem", "CERTIFICATE", me.Certificate)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(a.dir, "passwords"), nil, 0o600)
	}
	if err == nil {
		if _, missing := exec.LookPath("mosquitto_passwd"); missing != nil {
			t.Skip("there is no mosquitto: apt-get install mosquitto")
		}
		err = exec.Command("mosquitto_passwd", "-b", filepath.Join(a.dir, "passwords"), "gate", "swordfish").Run()
	}
	if err != nil {
		t.Fatal(err)
	}
	tls := func(name, cert, more string) string {
		return fmt.Sprintf("listener {%s} 127.0.0.1\ncertfile %s/%s.pem\nkeyfile %s/%s.key\n%s", name, a.dir, cert, a.dir, cert, more)
	}
	m := startMosquitto(t, tls("password", "good", "allow_anonymous false\npassword_file "+a.dir+"/passwords\n")+
		tls("certificate", "good", "allow_anonymous true\nrequire_certificate true\ncafile "+a.dir+"/clients.pem\n")+
		tls("expired", "expired", "allow_anonymous true\n")+tls("elsewhere", "elsewhere", "allow_anonymous true\n"))
	ca := filepath.Join(a.dir, "ca.pem")
	for name, c := range map[string]struct {
		listener string
		address  map[string]string
		says     string // empty: it connects
	}{
		"a password":        {"password", map[string]string{"ca_file": ca, "user": "gate", "password": "swordfish"}, ""},
		"a wrong password":  {"password", map[string]string{"ca_file": ca, "user": "gate", "password": "sardine"}, "not Authorized"},
		"no password":       {"password", map[string]string{"ca_file": ca}, "not Authorized"},
		"a certificate":     {"certificate", map[string]string{"ca_file": ca, "pki": store.Dir(), "user_certificate": "edge"}, ""},
		"no certificate":    {"certificate", map[string]string{"ca_file": ca}, "network Error"},
		"one that is not":   {"certificate", map[string]string{"ca_file": ca, "pki": store.Dir(), "user_certificate": "egde"}, "the certificate to log in with"},
		"nobody trusts it":  {"password", map[string]string{}, "nobody trusts the broker's certificate"},
		"it is expired":     {"expired", map[string]string{"ca_file": ca}, "expired or not yet valid"},
		"it is another's":   {"elsewhere", map[string]string{"ca_file": ca}, "for another host"},
		"no such authority": {"password", map[string]string{"ca_file": ca + "x"}, "the broker's authorities"},
		"not an authority":  {"password", map[string]string{"ca_file": filepath.Join(a.dir, "passwords")}, "holds no certificate"},
		"a broker without":  {"password", map[string]string{"plain": "yes"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
			c.address["url"], c.address["prefix"] = "ssl://"+m.address(c.listener), "x"
			if c.address["plain"] != "" {
				c.address["url"], c.says = "tcp://"+m.address(c.listener), "network Error"
			}
			link, err := Open(drivers.Config{Instruments: []*lab.Instrument{instrument(2 * time.Second)}, Sink: &sink{}, Clock: wallClock{},
				Address: func(*lab.Instrument) (map[string]string, error) { return c.address, nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			err = link.Connect(t.Context())
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (lab.KindOf(err) != lab.KindUnavailable || !strings.Contains(fmt.Sprint(err), c.says)):
				t.Errorf("%v; it should say %q", err, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "swordfish") {
				t.Error("the password is told")
			}
		})
	}
}
