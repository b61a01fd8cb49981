package configs

import (
	"path"
	"strconv"
	"strings"

	"labgate/internal/strict"
	"labgate/lab"
)

// linkOf reads where an instrument is. Addresses that begin with "sim:" are
// names of simulated devices, "embedded" is the broker inside this process.
func (r *labReader) linkOf(n *strict.Node, in *lab.Instrument) {
	if n == nil {
		return
	}
	in.Link = map[string]string{}
	switch in.Profile.Link.Kind {
	case lab.LinkSerial:
		f := r.Map(n, "link of kind serial", "port", "address")
		r.put(in, "port", r.address(f.Require("port"), "port"))
		r.put(in, "address", "0")
		if a := f.Get("address"); a != nil {
			x := r.Int(a)
			if x < 0 || x > 255 {
				r.add(a.Pos(), "out_of_bounds", "", "address %d; from 0 to 255", x)
			}
			in.Link["address"] = strconv.FormatInt(x, 10)
		}
	case lab.LinkOPCUA:
		r.opcua(r.Map(n, "link of kind opcua", opcuaKeys...), in)
	case lab.LinkMQTT:
		f := r.Map(n, "link of kind mqtt", mqttKeys...)
		r.broker(f, in)
		p := f.Require("prefix")
		if r.put(in, "prefix", r.text(p, "prefix", 128)); in.Link["prefix"] != "" && !topicRE.MatchString(in.Link["prefix"]) {
			r.add(p.Pos(), "bad_value", "levels of letters, digits, _ and -, joined by /", "prefix %q is not a topic", in.Link["prefix"])
		}
	case lab.LinkMemory:
		for _, e := range r.entries(n, "memory link") {
			r.add(e.pos, "unknown_key", "", "a memory link has no %q", e.key)
		}
	}
	for _, v := range in.Link {
		if simulated(v) && r.physical {
			r.add(n.Pos(), "simulated_link", "give its real address, or make the lab kind: simulated", "%s is at %s, a simulated device; the lab is not simulated", in.Name, v)
		}
	}
}

func (r *labReader) put(in *lab.Instrument, key, value string) {
	if value != "" {
		in.Link[key] = value
	}
}

func (r *labReader) address(n *strict.Node, what string) string {
	s := r.text(n, what, 300)
	if s != "" && (strings.ContainsAny(s, " \t\r\n\x00") || s == "sim:") {
		r.add(n.Pos(), "bad_value", "", "%s %q is not an address", what, s)
		return ""
	}
	return s
}

func simulated(address string) bool { return strings.HasPrefix(address, "sim:") }

// hostOf is the host of an address with a scheme, without its port.
func hostOf(address string) string {
	_, rest, _ := strings.Cut(address, "://")
	rest, _, _ = strings.Cut(rest, "/")
	if strings.HasPrefix(rest, "[") {
		host, _, _ := strings.Cut(rest[1:], "]")
		return host
	}
	host, _, _ := strings.Cut(rest, ":")
	return host
}

// loopback reports whether a host is this machine by its very name.
func loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.") && strings.Trim(host, "0123456789.") == ""
}

// checkAddresses reports one address under two names: two owners of one device
// would each believe that they alone command it. It also reports instruments
// on one line that disagree about the line.
func (r *labReader) checkAddresses() {
	first := map[string]*lab.Instrument{}
	lines := map[string]*lab.Instrument{}
	for _, in := range r.lab.Instruments {
		key := linkKey(in)
		if key == "" {
			continue
		}
		if other := first[key]; other != nil {
			r.add(in.Pos, "same_address", "", "%s and %s (%s) are at one address: %s", in.Name, other.Name, other.Pos, key)
			continue
		}
		first[key] = in
		if in.Profile.Link.Kind != lab.LinkSerial {
			continue
		}
		port := path.Clean(in.Link["port"])
		other := lines[port]
		if other == nil {
			lines[port] = in
			continue
		}
		a, b := in.Profile.Link, other.Profile.Link
		switch {
		case a.Baud != b.Baud || a.SendEnd != b.SendEnd || strings.Join(a.ReplyEnd, " ") != strings.Join(b.ReplyEnd, " "):
			r.add(in.Pos, "line_mismatch", "", "%s and %s (%s) share %s, and speak on it at another speed or with other line ends", in.Name, other.Name, other.Pos, port)
		case in.Gateway != other.Gateway:
			r.add(in.Pos, "line_mismatch", "", "%s and %s (%s) share %s, and belong to two gateways", in.Name, other.Name, other.Pos, port)
		}
	}
}

// linkKey is an instrument's address in one text; empty where it has none of
// its own. Devices of several namespaces may share an OPC UA server.
func linkKey(in *lab.Instrument) string {
	l := in.Link
	switch {
	case in.Profile.Link.Kind == lab.LinkSerial && l["port"] != "":
		return path.Clean(l["port"]) + " address " + l["address"]
	case in.Profile.Link.Kind == lab.LinkOPCUA && l["endpoint"] != "":
		return sameHost(l["endpoint"]) + " " + in.Profile.Link.Namespace
	case in.Profile.Link.Kind == lab.LinkMQTT && l["broker"] != "" && l["prefix"] != "":
		return sameHost(l["broker"]) + " " + l["prefix"]
	}
	return ""
}

// sameHost writes an address such that this machine's names are one.
func sameHost(address string) string {
	address = strings.TrimRight(address, "/")
	if host := hostOf(address); loopback(host) {
		return strings.Replace(address, host, "127.0.0.1", 1)
	}
	return address
}
