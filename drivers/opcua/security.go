package opcua

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"labgate/drivers"
	"labgate/internal/pki"
)

// secureReplies is how many more replies a Connect with security waits for, at
// most: hello, channel and endpoints of the connection that asks who is there.
const secureReplies = 3

// policies are those that a link may name, by their short names. Older ones
// stand on SHA-1 and are not among them.
var policies = map[string]string{
	"Basic256Sha256":        ua.SecurityPolicyURIBasic256Sha256,
	"Aes128_Sha256_RsaOaep": ua.SecurityPolicyURIAes128Sha256RsaOaep,
	"Aes256_Sha256_RsaPss":  ua.SecurityPolicyURIAes256Sha256RsaPss,
}

// security is what a lab file says of a link's channel and of who logs in. The
// mode is SignAndEncrypt wherever there is a policy.
type security struct {
	policy string // its URI; "" is none, by "insecure: true"
	uri    string // the server's application; "" is whichever its trusted certificate names
	user   string // logs in with a password, which the address carries
	cert   string // logs in with a certificate of the store
}

func securityOf(link map[string]string) (security, error) {
	s := security{policy: policies[link["security"]], uri: link["application_uri"], user: link["user"], cert: link["user_certificate"]}
	switch {
	case link["security"] == "" && link["insecure"] != "true":
		return s, errors.New(`its link has no security policy, and the key "insecure" of its link is not true`)
	case link["security"] != "" && link["insecure"] == "true":
		return s, errors.New("its link has a security policy, and is insecure")
	case link["security"] != "" && s.policy == "":
		return s, fmt.Errorf("its link has the security policy %q; there are Basic256Sha256, Aes128_Sha256_RsaOaep and Aes256_Sha256_RsaPss", link["security"])
	case s.policy == "" && (s.user != "" || s.cert != "" || s.uri != ""):
		return s, errors.New("its link is insecure: whoever answers there is shown no user, and believed nothing")
	case s.user != "" && s.cert != "":
		return s, errors.New("its link has a user both with a password and with a certificate")
	}
	return s, nil
}

// credentials are one Connect's: what was verified, and what is shown.
type credentials struct {
	endpoint *ua.EndpointDescription // made here out of verified parts only
	own      pki.Identity
	user     string
	password string
	cert     pki.Identity // of the user
}

// discover asks a server for its certificate and verifies it. What else the
// answer says comes from nobody known: it picks no policy and no mode, only the
// names by which the server knows its ways to log in.
func (s security) discover(ctx context.Context, address map[string]string, within time.Duration, now time.Time) (*credentials, error) {
	if s.policy == "" {
		return nil, nil
	}
	if address["pki"] == "" {
		return nil, errors.New("there is no folder of certificates")
	}
	store := pki.At(address["pki"])
	c := &credentials{user: s.user, password: address["password"]}
	var err error
	if c.own, err = store.Own(now); err != nil {
		return nil, err
	}
	if s.cert != "" {
		if c.cert, err = store.User(s.cert, now); err != nil {
			return nil, err
		}
	}
	at, err := url.Parse(address["endpoint"])
	if err != nil {
		return nil, err
	}
	offers, err := endpoints(ctx, address["endpoint"], within)
	if err != nil {
		return nil, fmt.Errorf("asking for its endpoints: %w", err)
	}
	offer, err := s.choose(offers)
	if err != nil {
		return nil, err
	}
	uri := s.uri
	if uri == "" && offer.Server != nil {
		uri = offer.Server.ApplicationURI
	}
	pin, err := store.Verify(offer.ServerCertificate, pki.Want{Host: at.Hostname(), URI: uri, Now: now})
	if err != nil {
		return nil, err
	}
	token, err := s.token(offer.UserIdentityTokens)
	if err != nil {
		return nil, err
	}
	c.endpoint = &ua.EndpointDescription{EndpointURL: address["endpoint"], ServerCertificate: pin, SecurityMode: ua.MessageSecurityModeSignAndEncrypt,
		SecurityPolicyURI: s.policy, UserIdentityTokens: []*ua.UserTokenPolicy{token}}
	return c, nil
}

// maxOffers is how many endpoints and ways to log in are looked at.
const maxOffers = 64

// endpoints asks over a connection of its own, without security: there is no
// other way to learn a server's certificate.
func endpoints(ctx context.Context, endpoint string, within time.Duration) ([]*ua.EndpointDescription, error) {
	sock := &socket{}
	client, err := opcua.NewClient(endpoint, opcua.AutoReconnect(false), opcua.RequestTimeout(within), opcua.Dialer(dialer(sock)),
		opcua.SecurityPolicy(ua.SecurityPolicyURINone), opcua.SecurityMode(ua.MessageSecurityModeNone))
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, sock.sever)()
	defer sock.sever()
	var offers []*ua.EndpointDescription
	err = guard(func() error {
		if err := client.Dial(ctx); err != nil {
			return err
		}
		res, err := client.GetEndpoints(ctx)
		if err == nil {
			offers = res.Endpoints
		}
		return err
	})
	farewell, cancel := context.WithTimeout(context.Background(), farewellWithin)
	defer cancel()
	_ = guard(func() error { return client.Close(farewell) }) // what was asked is answered, or failed already
	if err == nil && len(offers) > maxOffers {
		err = fmt.Errorf("it lists %d endpoints", len(offers))
	}
	return offers, err
}

// choose finds the endpoint with our policy.
func (s security) choose(offers []*ua.EndpointDescription) (*ua.EndpointDescription, error) {
	var seen []string
	for _, e := range offers {
		if e == nil {
			continue
		}
		if e.SecurityPolicyURI == s.policy && e.SecurityMode == ua.MessageSecurityModeSignAndEncrypt && (e.EndpointURL == "" || strings.HasPrefix(e.EndpointURL, "opc.tcp:")) {
			return e, nil
		}
		seen = append(seen, strings.TrimPrefix(e.SecurityPolicyURI, ua.SecurityPolicyURIPrefix)+" "+e.SecurityMode.String())
	}
	return nil, fmt.Errorf("the server does not offer %s with SignAndEncrypt, only %s", strings.TrimPrefix(s.policy, ua.SecurityPolicyURIPrefix),
		drivers.Printable(strings.Join(seen, ", "), maxText))
}

// token finds the server's name for our way to log in. A password goes out
// under a policy that is as good as the channel's, whatever the server says.
func (s security) token(offered []*ua.UserTokenPolicy) (*ua.UserTokenPolicy, error) {
	want := ua.UserTokenTypeAnonymous
	switch {
	case s.user != "":
		want = ua.UserTokenTypeUserName
	case s.cert != "":
		want = ua.UserTokenTypeCertificate
	}
	var seen []string
	for i, t := range offered {
		if t == nil || i >= maxOffers {
			continue
		}
		if t.TokenType == want && (want == ua.UserTokenTypeAnonymous || t.SecurityPolicyURI == "" || strongPolicy(t.SecurityPolicyURI)) {
			return &ua.UserTokenPolicy{PolicyID: t.PolicyID, TokenType: want, SecurityPolicyURI: t.SecurityPolicyURI}, nil
		}
		seen = append(seen, strings.TrimSpace(t.TokenType.String()+" "+strings.TrimPrefix(t.SecurityPolicyURI, ua.SecurityPolicyURIPrefix)))
	}
	return nil, fmt.Errorf("the server does not let %s log in under a policy from Basic256Sha256 up, only %s", map[ua.UserTokenType]string{
		ua.UserTokenTypeAnonymous: "anybody", ua.UserTokenTypeUserName: "a user with a password", ua.UserTokenTypeCertificate: "a user with a certificate",
	}[want], drivers.Printable(strings.Join(seen, ", "), maxText))
}

func strongPolicy(uri string) bool {
	for _, p := range policies {
		if p == uri {
			return true
		}
	}
	return false
}

// options are the library's, for one session. nil credentials are none.
func (c *credentials) options() []opcua.Option {
	if c == nil {
		return []opcua.Option{
			opcua.SecurityPolicy(ua.SecurityPolicyURINone),
			opcua.SecurityMode(ua.MessageSecurityModeNone),
			opcua.AuthAnonymous(),
			opcua.ApplicationURI("urn:labgate:gateway"),
		}
	}
	opts := []opcua.Option{
		opcua.Certificate(c.own.Certificate),
		opcua.PrivateKey(c.own.Key),
		opcua.ApplicationURI(c.own.URI),
	}
	switch {
	case c.user != "":
		opts = append(opts, opcua.AuthUsername(c.user, c.password))
	case c.cert.Key != nil:
		opts = append(opts, opcua.AuthCertificate(c.cert.Certificate), opcua.AuthPrivateKey(c.cert.Key))
	}
	return append(opts, opcua.SecurityFromEndpoint(c.endpoint, c.endpoint.UserIdentityTokens[0].TokenType))
}
