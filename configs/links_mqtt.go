package configs

import (
	"strconv"

	"labgate/internal/strict"
	"labgate/lab"
)

// mqttKeys are those of an MQTT link.
var mqttKeys = []string{"broker", "prefix", "insecure", "ca_file", "user", "password_file", "password_env", "user_certificate"}

// broker reads where a broker is, and who it is and who we are to it. Without
// TLS whoever stands between could command the instrument.
func (r *labReader) broker(f *strict.Fields, in *lab.Instrument) {
	n := f.Require("broker")
	s := r.address(n, "broker")
	r.put(in, "broker", s)
	insecure := f.Get("insecure")
	if insecure != nil {
		r.put(in, "insecure", strconv.FormatBool(r.Bool(insecure)))
	}
	r.linkWord(f, in, "ca_file", fileRE, "the name of a file in the data folder's pki/brokers, as in lab-ca.pem")
	user, file, env, cert := r.login(f, in)
	if s == "" {
		return
	}
	own := s == "embedded" || simulated(s)
	plain, safe := hasScheme(s, "tcp"), hasScheme(s, "ssl")
	if !own && !plain && !safe || !own && hostOf(s) == "" {
		r.add(n.Pos(), "bad_value", "embedded, tcp://host:1883 or ssl://host:8883", "broker %q is not the address of a broker", s)
		return
	}
	for _, k := range []*strict.Node{f.Get("ca_file"), cert} {
		if k != nil && !safe {
			r.add(k.Pos(), "no_security", "ssl://host:8883", "%s: certificates need a broker with TLS", in.Name)
		}
	}
	for _, k := range []*strict.Node{user, file, env} {
		if k != nil && own {
			r.add(k.Pos(), "bad_value", "", "%s: the embedded broker has users of its own", in.Name)
		}
	}
	switch elsewhere := plain && !loopback(hostOf(s)); {
	case elsewhere && in.Link["insecure"] != "true":
		r.add(n.Pos(), "no_security", "ssl://host:8883; or insecure: true, if nobody else is on that network", "%s: the broker is elsewhere, and without TLS anybody between could command it", in.Name)
	case in.Link["insecure"] == "true" && !plain:
		r.add(insecure.Pos(), "no_security", "leave it out", "%s: nothing about its link is insecure", in.Name)
	}
}
