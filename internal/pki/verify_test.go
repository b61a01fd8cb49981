package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestVerify: each case puts files into a store, shows a chain, and names the
// only reason that may come back.
func TestVerify(t *testing.T) {
	server := issue(t, "server", nil, nil)
	root := authority(t, "root", nil)
	middle := authority(t, "middle", root)
	leaf := issue(t, "leaf", middle, nil)
	direct := issue(t, "direct", root, nil)
	stranger := resign(t, authority(t, "root", nil), key(t, "stranger", 2048))
	old := issue(t, "old root", nil, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.NotAfter = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil, now.Add(-time.Hour)
	})
	wild := issue(t, "wild", nil, func(c *x509.Certificate) { c.DNSNames = []string{"*.lab"} })
	twoURIs := issue(t, "two", nil, func(c *x509.Certificate) { c.URIs = append(c.URIs, &url.URL{Scheme: "urn", Opaque: "other"}) })
	clientOnly := issue(t, "client", nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	signOnly := issue(t, "signs", nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	critical := issue(t, "critical", nil, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	})
	small := selfSignedBy(t, key(t, "small", 1024))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptical := selfSignedBy(t, curve)
	clean := func(by *party) []byte { return list(t, by, nil) }

	type files map[string][]byte
	for _, c := range []struct {
		name  string
		files files
		shown []byte
		want  func(*Want)
		is    Reason
		say   string
	}{
		{name: "trusted itself", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw},
		{name: "trusted itself, in PEM", files: files{"trusted/a.pem": asPEM(server)}, shown: server.cert.Raw},
		{name: "by its address", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Host = "10.0.0.7" }},
		{name: "by its name in capitals", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Host = "Reactor.LAB" }},
		{name: "nobody trusts it", shown: server.cert.Raw, is: Untrusted, say: "labgate pki trust " + Thumbprint(server.cert.Raw)},
		{name: "known as an issuer only", files: files{"issuers/a.der": server.cert.Raw}, shown: server.cert.Raw, is: Untrusted},
		{name: "a trusted file that is no certificate", files: files{"trusted/a.der": []byte("hello")}, shown: server.cert.Raw, is: Untrusted},
		{name: "another with the same name and key", files: files{"trusted/a.der": issue(t, "server", nil, nil).cert.Raw}, shown: server.cert.Raw, is: Untrusted},

		{name: "by a trusted authority", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(root)}, shown: direct.cert.Raw},
		{name: "through one in between, as shown", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(root), "crl/m.crl": clean(middle)}, shown: chainOf(leaf, middle)},
		{name: "through one in between, as kept", files: files{"trusted/r.der": root.cert.Raw, "issuers/m.der": middle.cert.Raw, "crl/r.crl": clean(root), "crl/m.crl": clean(middle)}, shown: leaf.cert.Raw},
		{name: "the one in between is what is trusted", files: files{"trusted/m.der": middle.cert.Raw, "issuers/r.der": root.cert.Raw, "crl/r.crl": clean(root), "crl/m.crl": clean(middle)}, shown: leaf.cert.Raw},
		{name: "one in between is missing", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(root)}, shown: leaf.cert.Raw, is: Untrusted},
		{name: "trusted itself, its issuer is unknown", files: files{"trusted/a.der": direct.cert.Raw}, shown: direct.cert.Raw, is: ChainIncomplete, say: "CN=root"},
		{name: "the root comes from the wire", files: files{"trusted/m.der": middle.cert.Raw, "crl/r.crl": clean(root), "crl/m.crl": clean(middle)}, shown: chainOf(leaf, middle, root), is: ChainIncomplete},
		{name: "stranger of the same name", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(root)}, shown: chainOf(issue(t, "evil", stranger, nil), stranger), is: Untrusted},
		{name: "signed by a server", files: files{"trusted/a.der": server.cert.Raw}, shown: chainOf(issue(t, "evil", server, nil), server), is: Untrusted},
		{name: "an authority that may have none below it", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(root)}, shown: chainOf(shallow(t, root)...), is: Untrusted},

		{name: "no list", files: files{"trusted/r.der": root.cert.Raw}, shown: direct.cert.Raw, is: RevocationUnknown, say: "put the authority's current list there"},
		{name: "a list too old", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": list(t, root, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Second) })}, shown: direct.cert.Raw, is: RevocationUnknown},
		{name: "a list from the future", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": list(t, root, func(l *x509.RevocationList) { l.ThisUpdate = now.Add(time.Second) })}, shown: direct.cert.Raw, is: RevocationUnknown},
		{name: "a list of somebody else", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(stranger)}, shown: direct.cert.Raw, is: RevocationUnknown},
		{name: "a list of some only", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": list(t, root, func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		})}, shown: direct.cert.Raw, is: RevocationUnknown},
		{name: "an unreadable list beside a good one", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": clean(root), "crl/x.crl": []byte("x")}, shown: direct.cert.Raw, is: RevocationUnknown, say: "crl/x.crl"},
		{name: "an unreadable list, nobody issued it", files: files{"trusted/a.der": server.cert.Raw, "crl/x.crl": []byte("x")}, shown: server.cert.Raw},
		{name: "revoked", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": list(t, root, nil, direct)}, shown: direct.cert.Raw, is: Revoked, say: "2026-02-27"},
		{name: "revoked, by an old list beside a new one", files: files{"trusted/r.der": root.cert.Raw, "crl/a.crl": list(t, root, func(l *x509.RevocationList) { l.NextUpdate = now.AddDate(0, 0, -1) }, direct), "crl/b.crl": clean(root)}, shown: direct.cert.Raw, is: Revoked},
		{name: "revoked although trusted itself", files: files{"trusted/a.der": direct.cert.Raw, "issuers/r.der": root.cert.Raw, "crl/r.crl": list(t, root, nil, direct)}, shown: direct.cert.Raw, is: Revoked},
		{name: "the one in between is revoked", files: files{"trusted/r.der": root.cert.Raw, "crl/r.crl": list(t, root, nil, middle), "crl/m.crl": clean(middle)}, shown: chainOf(leaf, middle), is: Revoked},

		{name: "expired", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Now = now.AddDate(1, 0, 1) }, is: Expired, say: "was valid until 2027-03-01 12:00 UTC"},
		{name: "not yet valid", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Now = now.AddDate(-2, 0, 0) }, is: NotYetValid},
		{name: "its authority is expired", files: files{"trusted/r.der": old.cert.Raw, "crl/o.crl": clean(old)}, shown: issue(t, "leaf", old, nil).cert.Raw, is: Expired, say: "CN=old root"},
		{name: "another host", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Host = "pump.lab" }, is: WrongHost, say: `it is for reactor.lab, 10.0.0.7, not for "pump.lab"`},
		{name: "another address", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Host = "10.0.0.8" }, is: WrongHost},
		{name: "no host", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.Host = "" }, is: WrongHost},
		{name: "a wildcard is no host", files: files{"trusted/a.der": wild.cert.Raw}, shown: wild.cert.Raw, is: WrongHost},
		{name: "another application", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.URI = "urn:other" }, is: WrongURI, say: `"urn:reactor.lab:server", not for "urn:other"`},
		{name: "no application", files: files{"trusted/a.der": server.cert.Raw}, shown: server.cert.Raw, want: func(w *Want) { w.URI = "" }, is: WrongURI},
		{name: "two applications", files: files{"trusted/a.der": twoURIs.cert.Raw}, shown: twoURIs.cert.Raw, is: WrongURI},
		{name: "a client's", files: files{"trusted/a.der": clientOnly.cert.Raw}, shown: clientOnly.cert.Raw, is: WrongUse},
		{name: "may not encrypt", files: files{"trusted/a.der": signOnly.cert.Raw}, shown: signOnly.cert.Raw, is: WrongUse},

		{name: "a short key", files: files{"trusted/a.der": small}, shown: small, is: Weak, say: "1024 bits"},
		{name: "no RSA", files: files{"trusted/a.der": elliptical}, shown: elliptical, is: Weak},
		{name: "critical and unknown", files: files{"trusted/a.der": critical.cert.Raw}, shown: critical.cert.Raw, is: Malformed},
		{name: "nothing", is: Malformed, say: "shows no certificate"},
		{name: "text", shown: []byte("hello"), is: Malformed},
		{name: "a certificate and text", files: files{"trusted/a.der": server.cert.Raw}, shown: append(bytes.Clone(server.cert.Raw), 'x'), is: Malformed},
		{name: "half a certificate", shown: server.cert.Raw[:200], is: Malformed},
		{name: "a sequence that is none", shown: []byte{0x30, 3, 2, 1, 1}, is: Malformed},
		{name: "nine certificates", files: files{"trusted/a.der": server.cert.Raw}, shown: bytes.Repeat(server.cert.Raw, 9), is: ChainTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := store(t)
			for name, data := range c.files {
				dir, file, _ := strings.Cut(name, "/")
				s.put(t, dir, file, data)
			}
			w := want()
			if c.want != nil {
				c.want(&w)
			}
			der, err := s.Verify(c.shown, w)
			if ReasonOf(err) != c.is || (err == nil) != (c.is == "") {
				t.Fatalf("got %v (%q), want %q", err, ReasonOf(err), c.is)
			}
			if err == nil {
				if !bytes.HasPrefix(c.shown, der) {
					t.Error("it is not the server's own certificate that comes back")
				}
				return
			}
			if !strings.Contains(err.Error(), c.say) {
				t.Errorf("%q lacks %q", err, c.say)
			}
			kept, err := s.files(rejectedDir)
			if err != nil || (len(kept) == 1) != (c.is == Untrusted) {
				t.Errorf("kept in rejected: %v, %v", kept, err)
			}
		})
	}
}

func asPEM(p *party) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

// resign makes a self-signed certificate anew, with another key.
func resign(t *testing.T, p *party, with *rsa.PrivateKey) *party {
	template := *p.cert
	template.PublicKey = nil
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &with.PublicKey, with)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{with, c}
}

func selfSignedBy(t *testing.T, key crypto.Signer) []byte {
	c := issue(t, "template", nil, nil).cert
	c.SignatureAlgorithm, c.PublicKey = x509.UnknownSignatureAlgorithm, nil
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func shallow(t *testing.T, root *party) []*party {
	low := issue(t, "low", root, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.MaxPathLenZero = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, true
	})
	lower := authority(t, "lower", low)
	return []*party{issue(t, "leaf", lower, nil), lower, low}
}

// TestLongChain: what a server sends costs bounded time and memory, whether its
// thousand certificates are well-formed or all claim to have signed each other.
func TestLongChain(t *testing.T) {
	s := store(t)
	one := issue(t, "server", nil, nil)
	tiny := []byte{0x30, 0}
	for name, shown := range map[string][]byte{
		"a thousand":           bytes.Repeat(one.cert.Raw, 1000),
		"a thousand, tiny":     bytes.Repeat(tiny, 1000),
		"one of ten megabytes": append([]byte{0x30, 0x84, 0, 0x98, 0x96, 0x80}, make([]byte, 10_000_000)...),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			_, err := s.Verify(shown, want())
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if ReasonOf(err) != ChainTooLong {
				t.Errorf("got %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 || took > time.Second {
				t.Errorf("%d bytes and %v to refuse it", used, took)
			}
		})
	}
}

// TestManyAuthorities: however many authorities of one name the folder and the
// wire offer, few signatures are checked.
func TestManyAuthorities(t *testing.T) {
	s := store(t)
	leaf := issue(t, "leaf", authority(t, "root", nil), nil)
	stranger := resign(t, authority(t, "root", nil), key(t, "stranger", 2048))
	for i := range 100 {
		s.put(t, issuersDir, strings.Repeat("i", i+1)+".der", resign(t, stranger, stranger.key).cert.Raw)
	}
	began := time.Now()
	_, err := s.Verify(leaf.cert.Raw, want())
	if took := time.Since(began); ReasonOf(err) != Untrusted || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

func FuzzVerify(f *testing.F) {
	root := authority(f, "root", nil)
	leaf := issue(f, "leaf", root, nil)
	f.Add(leaf.cert.Raw)
	f.Add(chainOf(leaf, root))
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	k := &known{trusted: []*x509.Certificate{root.cert}, issuers: []*x509.Certificate{issue(f, "middle", root, nil).cert}}
	f.Fuzz(func(t *testing.T, shown []byte) {
		pieces, refusal := splitChain(shown, maxChain)
		if refusal == nil && (len(pieces) == 0 || len(pieces) > maxChain || !bytes.Equal(bytes.Join(pieces, nil), shown)) {
			t.Fatalf("%d pieces of %d bytes are not the chain", len(pieces), totalLen(pieces))
		}
		chain, refusal := parseChain(shown)
		if refusal != nil {
			return
		}
		// Nothing but what the root signed may pass, and that has no list here.
		if refusal := k.verify(chain, want()); refusal == nil {
			t.Fatal("accepted")
		}
		for _, c := range chain {
			entry(rejectedDir, "x", c)
		}
	})
}
