package opcua

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"labgate/drivers"
	"labgate/drivers/drivertest"
	"labgate/internal/pki"
	"labgate/lab"
	"labgate/safety"
	"labgate/sim"
	face "labgate/sim/faces/opcua"
)

func basic() map[string]string { return map[string]string{"security": "Basic256Sha256"} }

// TestConformanceSecured: the whole suite, signed and encrypted, with a user.
func TestConformanceSecured(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{Start: func(t *testing.T, sink drivers.Sink, clock lab.Clock) *drivertest.Rig {
		link := basic()
		link["user"] = "labgate"
		s := secure(t, newStore(t, validIdentity()), link, sink.(*drivertest.Sink), clock, face.Secured(validIdentity()), face.Users(map[string]string{"labgate": "geheim ß"}))
		s.at("password", "geheim ß")
		var ids atomic.Int64
		count := func(f func(sim.Count) int) func() int {
			return func() (n int) {
				s.host.With(func(w *sim.World) { n = f(w.Count("reactor")) })
				return n
			}
		}
		fault := func(name string, on bool) {
			s.host.With(func(w *sim.World) {
				if err := w.Fault("reactor", name, on, nil); err != nil {
					t.Error(err)
				}
			})
		}
		return &drivertest.Rig{Link: s.link, Instrument: "reactor", Identifies: true,
			Properties: []lab.PropertyID{{Instrument: "reactor", Component: "jacket", Property: "temperature"}, {Instrument: "reactor", Component: "jacket", Property: "heating"}},
			Effect: func() *lab.Command {
				c := heat()
				c.ID = fmt.Sprintf("01H%d", ids.Add(1))
				return c
			},
			Effects: count(func(c sim.Count) int { return c.HeaterStarts }),
			Stop:    lab.CommandID{Instrument: "reactor", Component: "jacket", Command: "heat_off"},
			Stops:   count(func(c sim.Count) int { return c.Stops }),
			Mute:    func(on bool) { fault("drop", on) },
			Restart: func() { fault("reboot", true) },
		}
	}})
}

func TestPolicies(t *testing.T) {
	for policy := range policies {
		t.Run(policy, func(t *testing.T) {
			s := securedOnce(t, newStore(t, validIdentity()), map[string]string{"security": policy, "application_uri": reactorURI}, face.Secured(validIdentity()))
			if err := s.link.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r, err := s.heating(t); err != nil || r.Quality != lab.Good {
				t.Errorf("%+v, %v", r, err)
			}
			cmd := heat()
			res, err := s.link.Exchange(t.Context(), cmd, safety.NewTestPermit(t, cmd, s.link.Epoch("reactor"), time.Now().Add(time.Minute)))
			if err != nil || !res.Acked || s.starts() != 1 {
				t.Errorf("%+v, %v, %d starts", res, err, s.starts())
			}
		})
	}
}

// TestTrust: who is not trusted is not talked to; a human's word lets the very
// same server in, without a restart of anything.
func TestTrust(t *testing.T) {
	s := securedOnce(t, newStore(t), basic(), face.Secured(validIdentity()))
	thumb := pki.Thumbprint(validIdentity().Certificate)
	if err := s.refusedFor(t, "labgate pki trust "+thumb); pki.ReasonOf(err) != pki.Untrusted {
		t.Errorf("reason %q", pki.ReasonOf(err))
	}
	if _, err := s.store.Trust(thumb); err != nil {
		t.Fatal(err)
	}
	if err := s.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := s.heating(t); err != nil || r.Quality != lab.Good {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.Remove(filepath.Join(s.store.Dir(), "trusted", thumb+".der")); err != nil {
		t.Fatal(err)
	}
	s.refusedFor(t, "nobody has trusted it")
}

// TestOtherCertificate: a server that comes back with another certificate is
// another server.
func TestOtherCertificate(t *testing.T) {
	for _, c := range []struct {
		name string
		then face.Identity
		is   pki.Reason
	}{
		{"changed", renewedIdentity(), pki.Untrusted},
		{"expired", expiredIdentity(), pki.Expired},
		{"another application's", foreignIdentity(), pki.WrongURI},
	} {
		t.Run(c.name, func(t *testing.T) {
			known := []face.Identity{validIdentity()}
			if c.is != pki.Untrusted {
				known = append(known, c.then)
			}
			s := securedOnce(t, newStore(t, known...), basic(), face.Secured(validIdentity()))
			if err := s.link.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			cmd := heat()
			permit := safety.NewTestPermit(t, cmd, s.link.Epoch("reactor"), time.Now().Add(time.Minute))
			s.srv.Restart(c.then)
			eventually(t, "the old connection is lost", func() bool { _, err := s.heating(t); return err != nil })
			if len(s.sink.Losses()) != 1 {
				t.Errorf("losses %v", s.sink.Losses())
			}
			if err := s.link.Connect(t.Context()); pki.ReasonOf(err) != c.is {
				t.Errorf("got %v, want %s", err, c.is)
			}
			if _, err := s.link.Exchange(t.Context(), cmd, permit); lab.KindOf(err) != lab.KindNotSent {
				t.Errorf("a command: %v", err)
			}
			if n := s.starts(); n != 0 {
				t.Errorf("%d effects", n)
			}
			s.srv.Restart(validIdentity())
			if err := s.link.Connect(t.Context()); err != nil {
				t.Errorf("with the old certificate again: %v", err)
			}
		})
	}
}

func TestUsers(t *testing.T) {
	files, err := ownFiles()
	if err != nil {
		t.Fatal(err)
	}
	passwords, certs := face.Users(map[string]string{"labgate": "right"}), face.UserCertificates(files["users/operator.der"])
	for _, c := range []struct {
		name     string
		link     map[string]string
		password string
		server   []face.Option
		refused  string
	}{
		{name: "password", link: map[string]string{"user": "labgate"}, password: "right", server: []face.Option{passwords}},
		{name: "password, another policy", link: map[string]string{"user": "labgate", "security": "Aes256_Sha256_RsaPss"}, password: "right", server: []face.Option{passwords}},
		{name: "wrong password", link: map[string]string{"user": "labgate"}, password: "wrong", server: []face.Option{passwords}, refused: "StatusBadUserAccessDenied"},
		{name: "no password", link: map[string]string{"user": "labgate"}, server: []face.Option{passwords}, refused: "StatusBadUserAccessDenied"},
		{name: "nobody, where users are wanted", server: []face.Option{passwords, certs}, refused: "does not let anybody log in"},
		{name: "a password, where certificates are wanted", link: map[string]string{"user": "labgate"}, password: "right", server: []face.Option{certs}, refused: "does not let a user with a password log in"},
		{name: "certificate", link: map[string]string{"user_certificate": "operator"}, server: []face.Option{certs}},
		{name: "a certificate that is not known", link: map[string]string{"user_certificate": "operator"}, server: []face.Option{face.UserCertificates(validIdentity().Certificate)}, refused: "StatusBadIdentityTokenRejected"},
		{name: "a certificate that is not there", link: map[string]string{"user_certificate": "nobody"}, server: []face.Option{certs}, refused: "no such file"},
		{name: "an application that the server trusts", server: []face.Option{face.Clients(files["own/certificate.der"])}},
		{name: "an application that the server does not trust", server: []face.Option{face.Clients(validIdentity().Certificate)}, refused: "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			link := basic()
			for k, v := range c.link {
				link[k] = v
			}
			s := securedOnce(t, newStore(t, validIdentity()), link, append(c.server, face.Secured(validIdentity()))...)
			s.at("password", c.password)
			if c.refused != "" {
				if err := s.refusedFor(t, c.refused); strings.Contains(err.Error(), "right") || strings.Contains(err.Error(), "wrong") {
					t.Errorf("the password shows: %v", err)
				}
				return
			}
			if err := s.link.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r, err := s.heating(t); err != nil || r.Quality != lab.Good {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestNoSecurityAnswers(t *testing.T) {
	t.Run("the server offers none", func(t *testing.T) {
		securedOnce(t, newStore(t), basic()).refusedFor(t, "does not offer Basic256Sha256 with SignAndEncrypt, only None MessageSecurityModeNone")
	})
	t.Run("the server wants security", func(t *testing.T) {
		securedOnce(t, newStore(t), map[string]string{"insecure": "true"}, face.Secured(validIdentity())).refusedFor(t, "")
	})
	t.Run("another application is expected", func(t *testing.T) {
		link := basic()
		link["application_uri"] = "urn:the:real:one"
		s := securedOnce(t, newStore(t, validIdentity()), link, face.Secured(validIdentity()))
		if err := s.refusedFor(t, "urn:the:real:one"); pki.ReasonOf(err) != pki.WrongURI {
			t.Errorf("%v", err)
		}
	})
	t.Run("no certificate of our own", func(t *testing.T) {
		s := securedOnce(t, pki.At(t.TempDir()), basic(), face.Secured(validIdentity()))
		s.refusedFor(t, "labgate pki init")
	})
	t.Run("no folder", func(t *testing.T) {
		s := securedOnce(t, newStore(t), basic(), face.Secured(validIdentity()))
		s.at("pki", "")
		s.refusedFor(t, "no folder of certificates")
	})
}

// TestSecurityOf: no link without a policy, but by "insecure: true" alone.
func TestSecurityOf(t *testing.T) {
	for _, c := range []struct {
		link map[string]string
		bad  string
	}{
		{map[string]string{"insecure": "true"}, ""},
		{map[string]string{"security": "Basic256Sha256", "user": "u", "application_uri": "urn:x"}, ""},
		{map[string]string{"security": "Basic256Sha256", "insecure": "false"}, ""},
		{map[string]string{}, "no security policy"},
		{map[string]string{"insecure": "false"}, "no security policy"},
		{map[string]string{"security": "None"}, `"None"`},
		{map[string]string{"security": "Basic256"}, `"Basic256"`},
		{map[string]string{"security": "Basic128Rsa15"}, `"Basic128Rsa15"`},
		{map[string]string{"security": "Basic256Sha256", "insecure": "true"}, "is insecure"},
		{map[string]string{"insecure": "true", "user": "u"}, "is shown no user"},
		{map[string]string{"insecure": "true", "user_certificate": "u"}, "is shown no user"},
		{map[string]string{"security": "Basic256Sha256", "user": "u", "user_certificate": "u"}, "both"},
	} {
		s, err := securityOf(c.link)
		if (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%v: %v", c.link, err)
		}
		if err == nil && (s.policy == "") != (c.link["insecure"] == "true") {
			t.Errorf("%v: policy %q", c.link, s.policy)
		}
	}
}

// TestOneSecurity: instruments at one endpoint share its channel, so that none
// of them may want less than another.
func TestOneSecurity(t *testing.T) {
	a, b := reactor(), reactor()
	b.Name = "other"
	a.Link["security"], b.Link["insecure"] = "Basic256Sha256", "true"
	_, err := Open(drivers.Config{Instruments: []*lab.Instrument{a, b}, Sink: &drivertest.Sink{}, Clock: drivertest.Clock{},
		Address: func(*lab.Instrument) (map[string]string, error) { return nil, nil }})
	if err == nil || !strings.Contains(err.Error(), "another security") {
		t.Errorf("got %v", err)
	}
}
