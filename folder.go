package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"labgate/configs"
	"labgate/internal/bus"
	"labgate/lab"
)

// folder is a data folder: the journal, the bus's files, keys, and the
// context.json by which other commands find a running station.
type folder string

// stationContext is what context.json holds. It has the devices' password, so
// only its owner may read it.
type stationContext struct {
	Lab          string `json:"lab"`
	Gateway      string `json:"gateway"`
	Server       string `json:"server"` // NATS
	MQTT         string `json:"mqtt,omitempty"`
	MQTTUser     string `json:"mqtt_user,omitempty"`
	MQTTPassword string `json:"mqtt_password,omitempty"`
	Control      string `json:"control"` // the gateway's local socket
	PID          int    `json:"pid"`
}

func (f folder) path(parts ...string) string {
	return filepath.Join(append([]string{string(f)}, parts...)...)
}

// mostSocket is how long the path of a local socket may be, in bytes. Linux
// takes 107, others 103.
const mostSocket = 103

// make creates the folder. A relative one is kept relative in messages.
func (f folder) make() error {
	if socket := absolute(f.path("control.sock")); len(socket) > mostSocket {
		return fmt.Errorf("the data folder's path is %d bytes too long for the local socket in it (%s); name a shorter one with --data", len(socket)-mostSocket, socket)
	}
	return os.MkdirAll(f.path("keys"), 0o700)
}

// seed reads a key, making it first if it is missing and may be made.
func (f folder) seed(name string, create bool) ([]byte, error) {
	path := f.path("keys", name+".nk")
	b, err := os.ReadFile(path)
	if err == nil {
		return []byte(strings.TrimSpace(string(b))), nil
	}
	if !errors.Is(err, os.ErrNotExist) || !create {
		return nil, fmt.Errorf("no key for %q: %w", name, err)
	}
	seed, _, err := bus.NewKey()
	if err != nil {
		return nil, err
	}
	// Two processes may do this at once: the first one's key counts for both.
	fresh := fmt.Sprintf("%s.new-%d", path, os.Getpid())
	if err := os.WriteFile(fresh, append(seed, '\n'), 0o600); err != nil {
		return nil, err
	}
	err = os.Link(fresh, path)
	if rerr := os.Remove(fresh); err == nil || errors.Is(err, os.ErrExist) {
		err = rerr
	}
	if err != nil {
		return nil, err
	}
	return f.seed(name, false)
}

// mqttPassword is the devices' password, made on the first start.
func (f folder) mqttPassword() (string, error) {
	path := f.path("keys", "mqtt.password")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	raw := make([]byte, 24)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	pass := hex.EncodeToString(raw)
	return pass, os.WriteFile(path, []byte(pass+"\n"), 0o600)
}

func (f folder) writeContext(c stationContext) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	tmp := f.path("context.json.new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, f.path("context.json"))
}

func (f folder) readContext() (stationContext, error) {
	var c stationContext
	b, err := os.ReadFile(f.path("context.json"))
	if err != nil {
		return c, fmt.Errorf("nothing runs in %s (start serve or demo there, or give --data): %w", f, err)
	}
	return c, json.Unmarshal(b, &c)
}

// simFile holds where a simulator in another process has put its instruments.
func (f folder) simFile() string { return f.path("sim.json") }

func (f folder) writeSim(addresses map[string]string) error {
	b, err := json.MarshalIndent(addresses, "", "  ")
	if err != nil {
		return err
	}
	tmp := f.simFile() + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, f.simFile())
}

// simAddress is where a simulated instrument is, as long as its simulator
// lives: ports and terminals of one that is gone may be somebody else's by now.
func (f folder) simAddress(name string) (string, error) {
	gone := func(err error) error {
		return fmt.Errorf("no simulator runs here (start: labgate sim --data %s): %w", f, err)
	}
	alive, err := net.DialTimeout("unix", f.path("sim.sock"), time.Second)
	if err != nil {
		return "", gone(err)
	}
	if err := alive.Close(); err != nil {
		return "", gone(err)
	}
	b, err := os.ReadFile(f.simFile())
	if err != nil {
		return "", gone(err)
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return "", err
	}
	a, ok := m[name]
	if !ok {
		return "", fmt.Errorf("the simulator has no %q", name)
	}
	return a, nil
}

// ownPrincipals are the people and the agent of a simulated lab that names
// none: made on the first start, with their keys in the folder.
var ownPrincipals = []struct{ name, role string }{
	{"planner_1", bus.RoleAgent}, {"scientist_1", bus.RoleScientist}, {"operator_1", bus.RoleOperator}, {"safety_1", bus.RoleSafety},
}

// access is who counts: the lab's own list, else the folder's. A physical lab
// must have a list of its own.
func (f folder) access(cfg *configs.Config) (configs.Access, error) {
	var none configs.Access
	if cfg.Access != nil {
		return configs.Access{Principals: cfg.Principals, Approvals: cfg.Approvals}, nil
	}
	path := f.path("access.yaml")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if !cfg.Lab.Simulated {
			return none, fmt.Errorf("lab %s is physical and names no access file: nobody may use it; write access.yaml and name it in lab.yaml", cfg.Lab.Name)
		}
		for _, p := range ownPrincipals {
			if err := f.addPrincipal(p.name, p.role); err != nil {
				return none, err
			}
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return none, err
	}
	list, issues := configs.ParseAccess(path, data)
	return list, issues.Err()
}

// addPrincipal makes a key, and lists it in the folder's access.yaml. It is
// read again at the next start.
func (f folder) addPrincipal(name, role string) error {
	if err := lab.CheckName("principal", name); err != nil {
		return err
	}
	if err := f.make(); err != nil {
		return err
	}
	if _, err := os.Stat(f.path("keys", name+".nk")); err == nil {
		return fmt.Errorf("%s has a key already: %s", name, f.path("keys", name+".nk"))
	}
	seed, err := f.seed(name, true)
	if err != nil {
		return err
	}
	pub, err := bus.PublicKey(seed)
	if err != nil {
		return err
	}
	path := f.path("access.yaml")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		data, err = []byte("# Who may ask for what. A key counts only once it is listed here.\nprincipals:\n"), nil
	}
	if err != nil {
		return err
	}
	if list, issues := configs.ParseAccess(path, data); len(issues) == 0 {
		for _, p := range list.Principals {
			if p.Name == name {
				return fmt.Errorf("%s is listed in %s already", name, path)
			}
		}
	}
	until := time.Now().AddDate(1, 0, 0).UTC().Format("2006-01-02T00:00:00Z")
	entry := fmt.Sprintf("  %s: {role: %s, key: %s}\n", name, role, pub)
	switch role {
	case bus.RoleScientist: // a person who writes protocol files submits them as they are
		entry = fmt.Sprintf("  %s: {role: scientist, key: %s, may: {inline: yes}}\n", name, pub)
	case bus.RoleAgent:
		entry = fmt.Sprintf("  %s: {role: agent, key: %s, vetted: {by: safety_1, until: \"%s\"}, may: {inline: no}}\n", name, pub, until)
	}
	return os.WriteFile(path, append(data, entry...), 0o600)
}

// keyFor finds the seed of a principal, by its name in the folder or by the
// path of a file.
func (f folder) keyFor(as string) (name string, seed []byte, err error) {
	if lab.ValidName(as) {
		seed, err = f.seed(as, false)
		if err == nil {
			return as, seed, nil
		}
		return "", nil, fmt.Errorf("%w; there are: %s", err, strings.Join(f.keyNames(), ", "))
	}
	b, err := os.ReadFile(as)
	if err != nil {
		return "", nil, err
	}
	name = strings.TrimSuffix(filepath.Base(as), ".nk")
	return name, []byte(strings.TrimSpace(string(b))), lab.CheckName("principal", name)
}

func (f folder) keyNames() []string {
	files, _ := filepath.Glob(f.path("keys", "*.nk")) // the pattern is well formed
	var names []string
	for _, p := range files {
		if n := strings.TrimSuffix(filepath.Base(p), ".nk"); n != "runner" && n != simulatorName && !strings.HasPrefix(n, "gateway_") {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names
}
