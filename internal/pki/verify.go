package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	maxChain      = 8        // certificates in one chain
	maxChainBytes = 64 << 10 // all of them together
	minKeyBits    = 2048
	maxKeyBits    = 8192 // longer ones take the machine long to check, and help nobody
)

// Reason says why a certificate is refused.
type Reason string

// The reasons.
const (
	Malformed         Reason = "malformed"          // no certificate, or one that says what this package doesn't understand
	ChainTooLong      Reason = "chain_too_long"     // more than 8 certificates or 64 KiB
	Weak              Reason = "weak"               // a key below 2048 bits, no RSA key, or a signature with SHA-1 or older
	Untrusted         Reason = "untrusted"          // nobody trusts it; a copy is in rejected/
	ChainIncomplete   Reason = "chain_incomplete"   // its issuer is not known here, or did not sign it
	NotYetValid       Reason = "not_yet_valid"      // by this machine's clock
	Expired           Reason = "expired"            // by this machine's clock
	Revoked           Reason = "revoked"            // its issuer's list says so
	RevocationUnknown Reason = "revocation_unknown" // its issuer's list is missing, too old or unreadable
	WrongUse          Reason = "wrong_use"          // it may not sign and encrypt as a server's
	WrongHost         Reason = "wrong_host"         // it is not for the host of the endpoint
	WrongURI          Reason = "wrong_uri"          // it is not for the application that the server says it is
)

// Refusal is the error of Verify.
type Refusal struct {
	Reason     Reason
	Thumbprint string // of the server's certificate; "" if there is none
	Say        string
}

func (r *Refusal) Error() string {
	if r.Thumbprint == "" {
		return "certificate refused: " + r.Say
	}
	return fmt.Sprintf("certificate %s refused: %s", r.Thumbprint, r.Say)
}

// ReasonOf is why an error refuses a certificate; "" where it doesn't.
func ReasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

// Want is what a server's certificate must be for.
type Want struct {
	Host string // of the endpoint, as the lab file writes it
	URI  string // the server's application URI
	Now  time.Time
}

// Verify checks what a server shows: its certificate, perhaps followed by those
// of its issuers, in DER. It returns the server's own certificate. The error is
// a *Refusal, unless the folder itself can't be read. What is refused as
// untrusted is kept in rejected/ for a human to look at.
func (s *Store) Verify(shown []byte, want Want) ([]byte, error) {
	chain, refusal := parseChain(shown)
	if refusal != nil {
		return nil, refusal
	}
	known, err := s.known()
	if err != nil {
		return nil, err
	}
	if refusal = known.verify(chain, want); refusal == nil {
		return chain[0].Raw, nil
	}
	refusal.Thumbprint = Thumbprint(chain[0].Raw)
	if refusal.Reason == Untrusted {
		if err := s.reject(chain[0].Raw); err != nil {
			refusal.Say += fmt.Sprintf(" (and no copy could be kept in rejected: %v)", err)
		}
	}
	return nil, refusal
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Say: fmt.Sprintf(format, args...)}
}

// splitChain cuts certificates that follow each other, without looking into
// them: at most most pieces.
func splitChain(shown []byte, most int) ([][]byte, *Refusal) {
	if len(shown) == 0 {
		return nil, refuse(Malformed, "the server shows no certificate")
	}
	if len(shown) > maxChainBytes {
		return nil, refuse(ChainTooLong, "%d bytes of certificates; at most %d", len(shown), maxChainBytes)
	}
	var pieces [][]byte
	for len(shown) > 0 {
		if len(pieces) == most {
			return nil, refuse(ChainTooLong, "more than %d certificates", most)
		}
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(shown, &one)
		if err != nil || one.Class != asn1.ClassUniversal || one.Tag != asn1.TagSequence {
			return nil, refuse(Malformed, "no certificate in DER at byte %d of the chain", totalLen(pieces))
		}
		pieces = append(pieces, one.FullBytes)
		shown = rest
	}
	return pieces, nil
}

func totalLen(pieces [][]byte) (n int) {
	for _, p := range pieces {
		n += len(p)
	}
	return n
}

func parseChain(shown []byte) ([]*x509.Certificate, *Refusal) {
	pieces, refusal := splitChain(shown, maxChain)
	if refusal != nil {
		return nil, refusal
	}
	chain := make([]*x509.Certificate, len(pieces))
	for i, p := range pieces {
		c, err := x509.ParseCertificate(p)
		if err != nil {
			return nil, refuse(Malformed, "certificate %d of the chain: %s", i+1, printable(err.Error(), maxText))
		}
		chain[i] = c
	}
	return chain, nil
}

// known is what the folder holds, at one moment.
type known struct {
	trusted, issuers []*x509.Certificate
	lists            []*x509.RevocationList
	badList          error // a list that can't be read may hide a revocation
}

func (k *known) verify(shown []*x509.Certificate, want Want) *Refusal {
	leaf := shown[0]
	if refusal := strong(leaf); refusal != nil {
		return refusal
	}
	chain, whole := k.build(shown)
	trusted := false
	for i, c := range chain {
		if among(c, k.trusted) {
			trusted = true
		}
		if i > 0 {
			if refusal := strong(c); refusal != nil {
				return refusal
			}
		}
	}
	switch {
	case !trusted:
		return refuse(Untrusted, "nobody has trusted it, nor an authority that issued it: compare its thumbprint with the device's, then: labgate pki trust %s", Thumbprint(leaf.Raw))
	case !whole:
		last := chain[len(chain)-1]
		return refuse(ChainIncomplete, "the certificate of its issuer %s is neither in issuers nor in trusted, or did not sign it", printable(last.Issuer.String(), maxText))
	}
	for i, c := range chain {
		if refusal := inTime(c, want.Now); refusal != nil {
			return refusal
		}
		if refusal := k.revoked(chain, i, want.Now); refusal != nil {
			return refusal
		}
	}
	return fits(leaf, want)
}

// build goes from a server's certificate up to a root. What the server sends
// may only stand in between: a root, which signs itself, has to be in the
// folder. whole is false where an issuer is missing.
func (k *known) build(shown []*x509.Certificate) (chain []*x509.Certificate, whole bool) {
	chain = []*x509.Certificate{shown[0]}
	for len(chain) <= maxChain {
		last := chain[len(chain)-1]
		if selfSigned(last) {
			return chain, among(last, k.trusted) || among(last, k.issuers)
		}
		next := issuerOf(last, chain, k.trusted, k.issuers, shown[1:])
		if next == nil {
			return chain, false
		}
		chain = append(chain, next)
	}
	return chain, false
}

// maxTries is how many authorities of one name are asked whether they signed a
// certificate. Each question costs a signature check.
const maxTries = 8

func issuerOf(c *x509.Certificate, chain []*x509.Certificate, from ...[]*x509.Certificate) *x509.Certificate {
	tries := 0
	for _, list := range from {
		for _, issuer := range list {
			if !bytes.Equal(c.RawIssuer, issuer.RawSubject) || among(issuer, chain) || strong(issuer) != nil {
				continue
			}
			if tries++; tries > maxTries {
				return nil
			}
			if !issuer.BasicConstraintsValid || !issuer.IsCA {
				continue // the library would let an authority of version 1 pass
			}
			tooDeep := issuer.MaxPathLen >= 0 && (issuer.MaxPathLen > 0 || issuer.MaxPathLenZero) && len(chain)-1 > issuer.MaxPathLen
			if !tooDeep && c.CheckSignatureFrom(issuer) == nil {
				return issuer
			}
		}
	}
	return nil
}

func among(c *x509.Certificate, list []*x509.Certificate) bool {
	for _, x := range list {
		if bytes.Equal(c.Raw, x.Raw) {
			return true
		}
	}
	return false
}

// selfSigned asks about names first: a signature check is costly.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// strong checks key, hash, and that nothing in the certificate is critical and
// unknown here.
func strong(c *x509.Certificate) *Refusal {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return refuse(Weak, "its key is no RSA key; OPC UA wants RSA of at least %d bits", minKeyBits)
	}
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return refuse(Weak, "its key has %d bits; from %d to %d are allowed", bits, minKeyBits, maxKeyBits)
	}
	if !strongHash(c.SignatureAlgorithm) {
		return refuse(Weak, "it is signed with %s; SHA-256 with RSA or better is allowed", c.SignatureAlgorithm)
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		return refuse(Malformed, "it has a critical extension %s that nobody here understands", c.UnhandledCriticalExtensions[0])
	}
	return nil
}

func strongHash(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return true
	}
	return false
}

func inTime(c *x509.Certificate, now time.Time) *Refusal {
	const form = "2006-01-02 15:04 MST"
	switch {
	case now.Before(c.NotBefore):
		return refuse(NotYetValid, "%s is valid from %s on; it is %s", printable(c.Subject.String(), maxText), c.NotBefore.UTC().Format(form), now.UTC().Format(form))
	case now.After(c.NotAfter):
		return refuse(Expired, "%s was valid until %s; it is %s", printable(c.Subject.String(), maxText), c.NotAfter.UTC().Format(form), now.UTC().Format(form))
	}
	return nil
}

// revoked asks the list of who issued chain[i]. A root has no issuer that could
// revoke it: to take it out of trusted/ is how that is done.
func (k *known) revoked(chain []*x509.Certificate, i int, now time.Time) *Refusal {
	if i+1 == len(chain) {
		return nil
	}
	c, issuer := chain[i], chain[i+1]
	name := printable(issuer.Subject.String(), maxText)
	if k.badList != nil {
		return refuse(RevocationUnknown, "%v: it could say that %s revoked this", k.badList, name)
	}
	current := false
	for _, list := range k.lists {
		if !bytes.Equal(list.RawIssuer, issuer.RawSubject) || list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, e := range list.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return refuse(Revoked, "%s revoked it on %s", name, e.RevocationTime.UTC().Format(time.DateOnly))
			}
		}
		current = current || complete(list) && !now.Before(list.ThisUpdate) && !now.After(list.NextUpdate)
	}
	if !current {
		return refuse(RevocationUnknown, "there is no list in crl, signed by %s and valid now, that could say whether it is revoked: put the authority's current list there", name)
	}
	return nil
}

// complete: a list with a critical extension says so of something less than
// all of its issuer's certificates.
func complete(list *x509.RevocationList) bool {
	for _, e := range list.Extensions {
		if e.Critical {
			return false
		}
	}
	return strongHash(list.SignatureAlgorithm)
}

// fits checks what the certificate is for.
func fits(c *x509.Certificate, want Want) *Refusal {
	if u := c.KeyUsage; u != 0 && (u&x509.KeyUsageDigitalSignature == 0 || u&(x509.KeyUsageKeyEncipherment|x509.KeyUsageDataEncipherment) == 0) {
		return refuse(WrongUse, "it may not be used both to sign and to encrypt")
	}
	if (len(c.ExtKeyUsage) > 0 || len(c.UnknownExtKeyUsage) > 0) && !forServers(c.ExtKeyUsage) {
		return refuse(WrongUse, "it may not be used by a server")
	}
	if !forHost(c, want.Host) {
		return refuse(WrongHost, "it is for %s, not for %q: connect to one of those, or give the server a certificate with its host name", hosts(c), printable(want.Host, maxText))
	}
	if len(c.URIs) != 1 || want.URI == "" || c.URIs[0].String() != want.URI {
		var uris []string
		for _, u := range c.URIs {
			uris = append(uris, u.String())
		}
		return refuse(WrongURI, "it is for the application %q, not for %q", printable(strings.Join(uris, " "), maxText), printable(want.URI, maxText))
	}
	return nil
}

func forServers(usages []x509.ExtKeyUsage) bool {
	for _, u := range usages {
		if u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

// forHost compares names as they are written: no wildcards. Many servers write
// their IP address as a DNS name.
func forHost(c *x509.Certificate, host string) bool {
	if host == "" {
		return false
	}
	for _, n := range c.DNSNames {
		if strings.EqualFold(strings.TrimSuffix(n, "."), strings.TrimSuffix(host, ".")) {
			return true
		}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, raw := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(raw); ok && a.Unmap() == ip.Unmap() {
			return true
		}
	}
	return false
}

func hosts(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host at all"
	}
	return printable(strings.Join(names, ", "), maxText)
}
