package configs

import (
	"regexp"
	"slices"
	"strconv"

	"labgate/internal/strict"
	"labgate/lab"
)

// opcuaKeys are those of an OPC UA link. A password has no key: lab files are
// copied, shown and kept with their history.
var opcuaKeys = []string{"endpoint", "security", "insecure", "application_uri", "user", "password_file", "password_env", "user_certificate"}

// opcuaPolicies sign and encrypt with SHA-256 and AES; older ones are not
// offered.
var opcuaPolicies = []string{"Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"}

var (
	envRE  = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	fileRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`) // one in a folder that is known
	uriRE  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:\S+$`)
)

func (r *labReader) opcua(f *strict.Fields, in *lab.Instrument) {
	n := f.Require("endpoint")
	s := r.address(n, "endpoint")
	r.put(in, "endpoint", s)
	insecure := f.Get("insecure")
	if insecure != nil {
		r.put(in, "insecure", strconv.FormatBool(r.Bool(insecure)))
	}
	r.opcuaSecurity(f, in)
	r.opcuaUser(f, in)
	if s == "" {
		return
	}
	host := hostOf(s)
	if !simulated(s) && (!hasScheme(s, "opc.tcp") || host == "") {
		r.add(n.Pos(), "bad_value", "as in opc.tcp://host:4840", "endpoint %q is not the address of an OPC UA server", s)
		return
	}
	switch {
	case f.Get("security") != nil && in.Link["insecure"] == "true":
		r.add(insecure.Pos(), "no_security", "leave one of them out", "%s has a security policy, and is insecure", in.Name)
	case f.Get("security") == nil && in.Link["insecure"] != "true":
		r.add(n.Pos(), "no_security", "security: Basic256Sha256; or insecure: true, for a server on this machine only", "%s: the link has no security policy", in.Name)
	case in.Link["insecure"] == "true" && !simulated(s) && !loopback(host):
		r.add(insecure.Pos(), "no_security", "security: Basic256Sha256", "%s: insecure is for servers on this machine; %s is elsewhere, and anybody between could command it", in.Name, host)
	}
}

func (r *labReader) opcuaSecurity(f *strict.Fields, in *lab.Instrument) {
	if n := f.Get("security"); n != nil {
		p := r.text(n, "security", 40)
		if p != "" && !slices.Contains(opcuaPolicies, p) {
			r.add(n.Pos(), "bad_value", "Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss", "%q is no security policy that is safe", p)
			return
		}
		r.put(in, "security", p)
	}
	r.linkWord(f, in, "application_uri", uriRE, "as in urn:reactor.lab:server, from the server's certificate")
}

// opcuaUser reads who logs in, which only a server that is known is told.
func (r *labReader) opcuaUser(f *strict.Fields, in *lab.Instrument) {
	user, file, env, cert := r.login(f, in)
	for _, n := range []*strict.Node{user, file, env, cert, f.Get("application_uri")} {
		if n != nil && f.Get("security") == nil {
			r.add(n.Pos(), "no_security", "security: Basic256Sha256", "%s: without a security policy nobody knows who would be told this", in.Name)
			return
		}
	}
	if user != nil && cert != nil {
		r.add(cert.Pos(), "bad_value", "leave one of them out", "%s logs in with a password and with a certificate", in.Name)
	}
}

// login reads who we are to a server: a user with a password that lies
// elsewhere, or the name of a certificate.
func (r *labReader) login(f *strict.Fields, in *lab.Instrument) (user, file, env, cert *strict.Node) {
	if n := f.Get("user"); n != nil {
		r.put(in, "user", r.text(n, "user", 100))
	}
	r.linkWord(f, in, "password_file", fileRE, "the name of a file in the data folder's secrets, as in reactor.password")
	r.linkWord(f, in, "password_env", envRE, "the name of an environment variable, as in REACTOR_PASSWORD")
	r.linkWord(f, in, "user_certificate", fileRE, "the name that labgate pki init --user was given")
	user, file, env, cert = f.Get("user"), f.Get("password_file"), f.Get("password_env"), f.Get("user_certificate")
	switch {
	case user != nil && (file == nil) == (env == nil):
		r.add(user.Pos(), "missing_key", "", "a user needs either password_file or password_env")
	case user == nil && file != nil:
		r.add(file.Pos(), "missing_key", "", "a password needs a user")
	case user == nil && env != nil:
		r.add(env.Pos(), "missing_key", "", "a password needs a user")
	}
	return user, file, env, cert
}

func (r *labReader) linkWord(f *strict.Fields, in *lab.Instrument, key string, re *regexp.Regexp, hint string) {
	n := f.Get(key)
	if n == nil {
		return
	}
	s := r.text(n, key, 200)
	if s != "" && !re.MatchString(s) {
		r.add(n.Pos(), "bad_value", hint, "%q is no %s", s, key)
		return
	}
	r.put(in, key, s)
}

// sameSecurity reports instruments behind one server that want different
// security or users of its one channel.
func (r *labReader) sameSecurity() {
	first := map[string]*lab.Instrument{}
	for _, in := range r.lab.Instruments {
		if in.Profile.Link.Kind != lab.LinkOPCUA || in.Link["endpoint"] == "" {
			continue
		}
		other := first[in.Link["endpoint"]]
		if other == nil {
			first[in.Link["endpoint"]] = in
			continue
		}
		for _, key := range opcuaKeys {
			if in.Link[key] != other.Link[key] {
				r.add(in.Pos, "line_mismatch", "write the same for both", "%s and %s (%s) are behind one server, and differ in %s", in.Name, other.Name, other.Pos, key)
				break
			}
		}
	}
}
