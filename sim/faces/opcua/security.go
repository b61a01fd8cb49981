package opcua

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// Option changes what a server is.
type Option func(*Server)

// Identity is who a server is: its certificate, and the key to it.
type Identity struct {
	Certificate []byte
	Key         *rsa.PrivateKey
}

// Policies that a server with an identity offers, always to sign and encrypt.
var offered = []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss}

// tokenPolicy is what passwords and users' signatures are under, whatever the
// channel's policy is.
const tokenPolicy = ua.SecurityPolicyURIBasic256Sha256

// Secured gives a server an identity: without a secure channel it then tells
// its endpoints, and nothing else.
func Secured(id Identity) Option { return func(s *Server) { s.identity = &id } }

// Users are whom a secured server lets in, by password. With any there, nobody
// gets in without being one.
func Users(passwords map[string]string) Option { return func(s *Server) { s.users = passwords } }

// UserCertificates are whom a secured server lets in, by certificate.
func UserCertificates(certs ...[]byte) Option { return func(s *Server) { s.userCerts = certs } }

// Clients are the applications that a secured server talks to, by certificate;
// none there: all.
func Clients(certs ...[]byte) Option { return func(s *Server) { s.clients = certs } }

// NewIdentity makes a certificate for a server on loopback with this
// application URI, signed by itself.
func NewIdentity(uri string, from, to time.Time) (Identity, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Identity{}, err
	}
	u, err := url.Parse(uri)
	if err != nil {
		return Identity{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: "Labgate simulator"}, NotBefore: from, NotAfter: to,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, URIs: []*url.URL{u},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return Identity{Certificate: der, Key: key}, err
}

// Restart is a restart of the server with another identity: every connection
// ends, and who comes again sees the other certificate.
func (s *Server) Restart(id Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity = &id
}

func (s *Server) present() *Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// endpoints describes what is offered.
func (s *Server) endpoints() []*ua.EndpointDescription {
	id := s.present()
	if id == nil {
		return []*ua.EndpointDescription{s.description()}
	}
	var tokens []*ua.UserTokenPolicy
	if len(s.users) == 0 && len(s.userCerts) == 0 {
		tokens = append(tokens, &ua.UserTokenPolicy{PolicyID: anonymous, TokenType: ua.UserTokenTypeAnonymous})
	}
	if len(s.users) > 0 {
		tokens = append(tokens, &ua.UserTokenPolicy{PolicyID: "password", TokenType: ua.UserTokenTypeUserName, SecurityPolicyURI: tokenPolicy})
	}
	if len(s.userCerts) > 0 {
		tokens = append(tokens, &ua.UserTokenPolicy{PolicyID: "certificate", TokenType: ua.UserTokenTypeCertificate, SecurityPolicyURI: tokenPolicy})
	}
	var all []*ua.EndpointDescription
	for i, p := range offered {
		e := s.description()
		e.ServerCertificate, e.SecurityMode, e.SecurityPolicyURI = id.Certificate, ua.MessageSecurityModeSignAndEncrypt, p
		e.UserIdentityTokens, e.SecurityLevel = tokens, uint8(i+1)
		all = append(all, e)
	}
	return all
}

// allowed judges a channel by what it turned out to be, before each request.
func (c *conn) allowed(req ua.Request) error {
	if c.id == nil {
		if c.cfg.SecurityPolicyURI != ua.SecurityPolicyURINone || c.cfg.SecurityMode != ua.MessageSecurityModeNone {
			return fmt.Errorf("security is not offered here")
		}
		return nil
	}
	if c.cfg.SecurityPolicyURI == ua.SecurityPolicyURINone && c.cfg.SecurityMode == ua.MessageSecurityModeNone {
		switch req.(type) {
		case nil, *ua.GetEndpointsRequest, *ua.FindServersRequest, *ua.CloseSecureChannelRequest:
			return nil
		}
		return fmt.Errorf("without security there are only endpoints")
	}
	for _, p := range offered {
		if c.cfg.SecurityPolicyURI == p && c.cfg.SecurityMode == ua.MessageSecurityModeSignAndEncrypt {
			if len(c.srv.clients) > 0 && !among(c.cfg.RemoteCertificate, c.srv.clients) {
				return ua.StatusBadCertificateUntrusted
			}
			return nil
		}
	}
	return fmt.Errorf("%s with %s is not offered here", c.cfg.SecurityPolicyURI, c.cfg.SecurityMode)
}

func among(cert []byte, list [][]byte) bool {
	for _, c := range list {
		if bytes.Equal(c, cert) {
			return true
		}
	}
	return false
}

// sign proves to a client that the server has the key to its certificate.
func (c *conn) sign(r *ua.CreateSessionRequest, resp *ua.CreateSessionResponse) error {
	if c.id == nil {
		return nil
	}
	if !bytes.Equal(r.ClientCertificate, c.cfg.RemoteCertificate) {
		return ua.StatusBadCertificateInvalid
	}
	sig, alg, err := c.sc.NewSessionSignature(r.ClientCertificate, r.ClientNonce)
	resp.ServerCertificate, resp.ServerSignature = c.id.Certificate, &ua.SignatureData{Algorithm: alg, Signature: sig}
	return err
}

// login checks that the client has the key to its certificate, and who its user
// is.
func (c *conn) login(s *session, r *ua.ActivateSessionRequest) ua.StatusCode {
	var token any
	if r.UserIdentityToken != nil {
		token = r.UserIdentityToken.Value
	}
	_, nobody := token.(*ua.AnonymousIdentityToken)
	nobody = nobody || token == nil
	if c.id == nil {
		if !nobody {
			return ua.StatusBadIdentityTokenRejected
		}
		return ua.StatusOK
	}
	if r.ClientSignature == nil || c.sc.VerifySessionSignature(c.cfg.RemoteCertificate, s.nonce, r.ClientSignature.Signature) != nil {
		return ua.StatusBadApplicationSignatureInvalid
	}
	switch t := token.(type) {
	case *ua.UserNameIdentityToken:
		if want, ok := c.srv.users[t.UserName]; !ok || c.password(s, t) != want || want == "" {
			return ua.StatusBadUserAccessDenied
		}
		return ua.StatusOK
	case *ua.X509IdentityToken:
		if !among(t.CertificateData, c.srv.userCerts) || r.UserTokenSignature == nil || !c.signedBy(s, t.CertificateData, r.UserTokenSignature.Signature) {
			return ua.StatusBadIdentityTokenRejected
		}
		return ua.StatusOK
	}
	if !nobody || len(c.srv.users) > 0 || len(c.srv.userCerts) > 0 {
		return ua.StatusBadIdentityTokenRejected
	}
	return ua.StatusOK
}

// password decrypts; "" is none.
func (c *conn) password(s *session, t *ua.UserNameIdentityToken) string {
	alg, err := uapolicy.Asymmetric(tokenPolicy, c.id.Key, &c.id.Key.PublicKey)
	if err != nil || t.EncryptionAlgorithm != alg.EncryptionURI() {
		return ""
	}
	b, err := alg.Decrypt(t.Password)
	if err != nil || len(b) < 4 {
		return ""
	}
	size := int64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if size > int64(len(b)) || size < int64(len(s.nonce)) || !bytes.Equal(b[size-int64(len(s.nonce)):size], s.nonce) {
		return ""
	}
	return string(b[:size-int64(len(s.nonce))])
}

func (c *conn) signedBy(s *session, cert, sig []byte) bool {
	key, err := uapolicy.PublicKey(cert)
	if err != nil {
		return false
	}
	alg, err := uapolicy.Asymmetric(tokenPolicy, c.id.Key, key)
	return err == nil && alg.VerifySignature(append(bytes.Clone(c.id.Certificate), s.nonce...), sig) == nil
}
