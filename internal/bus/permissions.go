package bus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"labgate/lab"
)

// Roles of principals.
const (
	RoleAgent     = "agent"
	RoleScientist = "scientist"
	RoleOperator  = "operator"
	RoleSafety    = "safety"
)

var roles = []string{RoleAgent, RoleScientist, RoleOperator, RoleSafety}

// Principal is a person or an agent with a key.
type Principal struct {
	Name string
	Role string
	Key  string // public NKey, "U…"
}

// Names of the parts, which no principal can have: they own inboxes too.
const (
	runnerName    = "runner"
	gatewayPrefix = "gateway_"
	simName       = "simulator"
	adminName     = "stream_keeper"
)

// check refuses options under which somebody could be taken for somebody else,
// or get in unasked.
func (o *ServerOptions) check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	holder := map[string]string{} // key to who holds it
	claim := func(who, key string) {
		if !nkeys.IsValidPublicUserKey(key) {
			add("the key of %s is not the public key of a user: %q", who, key)
		} else if other, taken := holder[key]; taken {
			add("%s and %s have the same key", other, who)
		}
		holder[key] = who
	}
	if err := lab.CheckName("lab", o.Lab); err != nil {
		errs = append(errs, err)
	}
	claim("the runner", o.RunnerKey)
	for name, key := range o.Gateways {
		if err := lab.CheckName("gateway", name); err != nil {
			errs = append(errs, err)
		}
		claim("gateway "+name, key)
	}
	if o.SimKey != "" {
		claim("the simulator", o.SimKey)
	}
	seen := map[string]bool{}
	for _, p := range o.Principals {
		if err := lab.CheckName("principal", p.Name); err != nil {
			errs = append(errs, err)
		}
		if p.Name == runnerName || p.Name == adminName || p.Name == simName || strings.HasPrefix(p.Name, gatewayPrefix) {
			add("%s is the name of a part, not of a principal", p.Name)
		}
		if seen[p.Name] {
			add("principal %s is listed twice", p.Name)
		}
		seen[p.Name] = true
		if !slices.Contains(roles, p.Role) {
			add("%s has no role of %s: %q", p.Name, strings.Join(roles, ", "), p.Role)
		}
		claim(p.Name, p.Key)
	}
	for user, pass := range o.MQTTUsers {
		if user == "" || pass == "" {
			add("an MQTT user %q without a name or a password", user)
		}
	}
	if o.StoreDir == "" {
		add("no folder for JetStream's files")
	}
	return errors.Join(errs...)
}

// users are the NKey users of account LAB with what each may do. Nobody else
// gets in: there is no default user, and what is not listed is denied.
func (o *ServerOptions) users(acc *server.Account, adminKey string) []*server.NkeyUser {
	var users []*server.NkeyUser
	add := func(key string, p *server.Permissions) {
		users = append(users, &server.NkeyUser{Nkey: key, Account: acc, Permissions: p, AllowedConnectionTypes: map[string]struct{}{"STANDARD": {}, "IN_PROCESS": {}}})
	}
	add(adminKey, may(adminName, []string{"$JS.API.STREAM.CREATE." + Stream, "$JS.API.STREAM.UPDATE." + Stream}, nil))
	add(o.RunnerKey, answering(o.runnerMay()))
	for name, key := range o.Gateways {
		add(key, answering(o.gatewayMay(name)))
	}
	if o.SimKey != "" {
		add(o.SimKey, answering(may(simName, nil, []string{Sim(o.Lab)})))
	}
	for _, p := range o.Principals {
		add(p.Key, o.principalMay(p))
	}
	return users
}

// may allows exactly these subjects, and one's own inbox.
func may(name string, publish, subscribe []string) *server.Permissions {
	return &server.Permissions{Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: append(subscribe, Inbox(name)+".>")}}
}

// answering adds one answer to each message that asks for one. Where the
// answer goes is checked by Conn.Handle.
func answering(p *server.Permissions) *server.Permissions {
	p.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
	return p
}

// runnerMay: verdicts, run documents, commands, leases, stops; and to take
// proposals from their stream, but not to change it.
func (o *ServerOptions) runnerMay() *server.Permissions {
	l := "lab." + o.Lab + "."
	return may(runnerName,
		[]string{Verdicts(o.Lab, "*"), l + "runs.>", Command(o.Lab, "*", "*"), Lease(o.Lab, "*", "*"), Stop(o.Lab),
			"$JS.API.STREAM.INFO." + Stream, "$JS.API.STREAM.CREATE." + Stream, "$JS.API.CONSUMER.CREATE." + Stream + "." + consumer, "$JS.API.CONSUMER.CREATE." + Stream + "." + consumer + ".>",
			"$JS.API.CONSUMER.INFO." + Stream + "." + consumer, "$JS.API.CONSUMER.MSG.NEXT." + Stream + "." + consumer, "$JS.ACK." + Stream + "." + consumer + ".>"},
		[]string{Outcome(o.Lab, "*", "*"), l + "gw.*.*.telemetry.>", l + "gw.*.safety.>", Approvals(o.Lab, "*"), Control(o.Lab, "*")})
}

// gatewayMay: the outcomes, readings and safety messages of its own subtree.
func (o *ServerOptions) gatewayMay(name string) *server.Permissions {
	own := "lab." + o.Lab + ".gw." + name + "."
	return may(gatewayPrefix+name,
		[]string{Outcome(o.Lab, name, "*"), own + "*.telemetry.>", own + "safety.>"},
		[]string{Command(o.Lab, name, "*"), Lease(o.Lab, name, "*"), Stop(o.Lab), Control(o.Lab, "*")})
}

// principalMay: its own proposals and control messages; people may approve
// under their own name, stop, and read what happens.
func (o *ServerOptions) principalMay(p Principal) *server.Permissions {
	l := "lab." + o.Lab + "."
	publish := []string{Proposals(o.Lab, p.Name), Control(o.Lab, p.Name)}
	subscribe := []string{Verdicts(o.Lab, p.Name), l + "runs." + p.Name + ".>"}
	switch p.Role {
	case RoleScientist, RoleOperator, RoleSafety:
		publish = append(publish, Approvals(o.Lab, p.Name), Stop(o.Lab))
		subscribe = append(subscribe, l+"runs.>", Verdicts(o.Lab, "*"), l+"gw.>")
		if o.SimKey != "" { // an agent plays no tricks on the world it is judged by
			publish = append(publish, Sim(o.Lab))
		}
	}
	return may(p.Name, publish, subscribe)
}
