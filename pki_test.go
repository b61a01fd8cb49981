package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	face "labgate/sim/faces/opcua"
)

// pkiLine is what pki says to machines.
type pkiLine struct {
	Type, State, File, Thumbprint, SHA256, Subject, URI, Hosts, Say, Folder string
	From, To                                                                time.Time
	Valid                                                                   bool
	Certificates                                                            int
}

// pkiSays runs a pki verb in a data folder.
func pkiSays(t *testing.T, code int, data string, args ...string) (lines []pkiLine, text string) {
	t.Helper()
	var out, errs bytes.Buffer
	args = append(append([]string{"pki"}, args...), "--data", data)
	if got := execute(t.Context(), args, &out, &errs); got != code {
		t.Fatalf("%v: exit %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.HasPrefix(l, "{") {
			continue
		}
		var p pkiLine
		if err := json.Unmarshal([]byte(l), &p); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, p)
	}
	return lines, out.String() + errs.String()
}

func TestPKIVerbs(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if _, text := pkiSays(t, exitDone, data, "list"); !strings.Contains(text, "labgate pki init") {
		t.Errorf("an empty list says %s", text)
	}
	made, _ := pkiSays(t, exitDone, data, "init", "--uri", "urn:lab-pc:labgate", "--host", "lab-pc", "--host", "10.0.0.2", "--days", "30", "--json")
	if len(made) != 1 || made[0].State != "own" || made[0].URI != "urn:lab-pc:labgate" || made[0].Hosts != "lab-pc, 10.0.0.2" || !made[0].Valid || made[0].To.Before(time.Now().AddDate(0, 0, 29)) {
		t.Errorf("init says %+v", made)
	}
	key := filepath.Join(data, "pki", "own", "private-key.pem")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, text := pkiSays(t, exitRefused, data, "init"); !strings.Contains(text, "move it away first") {
		t.Errorf("a second init says %s", text)
	}
	if after, err := os.ReadFile(key); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key is another: %v", err)
	}
	if user, _ := pkiSays(t, exitDone, data, "init", "--user", "operator", "--json"); len(user) != 1 || user[0].State != "users" || user[0].URI != "" {
		t.Errorf("init --user says %+v", user)
	}
	server, err := face.NewIdentity("urn:server", time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.der")
	if err := os.WriteFile(file, server.Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	trusted, _ := pkiSays(t, exitDone, data, "trust", file, "--json")
	if len(trusted) != 1 || trusted[0].State != "trusted" || trusted[0].Valid || !strings.HasPrefix(trusted[0].Say, "EXPIRED") {
		t.Errorf("trust says %+v", trusted)
	}
	list, _ := pkiSays(t, exitDone, data, "list", "--json")
	var states []string
	for _, l := range list {
		states = append(states, l.State)
	}
	if s := strings.Join(states, " "); s != "own users trusted " || list[3].Type != "summary" || list[3].Certificates != 3 {
		t.Errorf("list says %q, %+v", s, list)
	}
	_, text := pkiSays(t, exitDone, data)
	if !strings.Contains(text, made[0].Thumbprint) || !strings.Contains(text, "EXPIRED") || strings.Contains(text, "PRIVATE") {
		t.Errorf("for people:\n%s", text)
	}
}

func TestPKIRefuses(t *testing.T) {
	data := t.TempDir()
	for _, c := range []struct {
		code int
		args []string
		say  string
	}{
		{exitUsage, []string{"init", "--days", "0"}, "from 1 to 3650"},
		{exitUsage, []string{"init", "--user", "a", "--uri", "urn:a:b"}, "has no --uri"},
		{exitRefused, []string{"init", "--uri", "labgate"}, "is no application URI"},
		{exitRefused, []string{"init", "--user", "../a"}, "no name of a user's files"},
		{exitRefused, []string{"trust", "1234"}, "neither a whole thumbprint"},
		{exitRefused, []string{"trust", strings.Repeat("ab", 20)}, "no certificate in"},
		{exitUsage, []string{"trust"}, "expected"},
	} {
		if _, text := pkiSays(t, c.code, data, c.args...); !strings.Contains(text, c.say) {
			t.Errorf("%v says %s", c.args, text)
		}
	}
}

// TestCredentials: a password comes from where the lab file says, and from a
// file that only its owner reads.
func TestCredentials(t *testing.T) {
	data := folder(t.TempDir())
	if err := os.MkdirAll(data.path("secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(data.path("secrets", name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", " geheim \r\n", 0o600)
	write("open", "geheim", 0o644)
	write("empty", "\n", 0o600)
	write("long", strings.Repeat("x", maxSecret+1), 0o600)
	t.Setenv("LABGATE_TEST_PASSWORD", "from the environment")
	in := &lab.Instrument{Name: "reactor", Profile: &lab.Profile{Link: lab.LinkSpec{Kind: lab.LinkOPCUA}}}
	for _, c := range []struct{ key, value, password, bad string }{
		{"password_file", "good", " geheim ", ""},
		{"password_file", "open", "", "chmod 600"},
		{"password_file", "empty", "", "holds no password"},
		{"password_file", "long", "", "holds no password"},
		{"password_file", "none", "", "no password"},
		{"password_env", "LABGATE_TEST_PASSWORD", "from the environment", ""},
		{"password_env", "LABGATE_TEST_NONE", "", "LABGATE_TEST_NONE holds no password"},
		{"user_certificate", "x", "", ""},
	} {
		link := map[string]string{c.key: c.value}
		err := data.credentials(in, link)
		if (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s %s: %v", c.key, c.value, err)
		}
		if err == nil && (link["password"] != c.password || link["pki"] != data.path("pki")) {
			t.Errorf("%s %s: %v", c.key, c.value, link)
		}
	}
}
