package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecuredReactor: a reactor that wants security and a user, from the first
// start to its readings. Its certificate is trusted while the station waits for
// it, by its thumbprint; the one link without security is shown as such.
func TestSecuredReactor(t *testing.T) {
	t.Parallel()
	l := &twoProcesses{TB: t, lab: benchLab(t), data: tempDir(t)}
	file := filepath.Join(l.lab, "lab.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const open, secured = `{endpoint: "sim:reactor", insecure: true}`, `{endpoint: "sim:reactor", security: Aes256_Sha256_RsaPss, user: labgate, password_file: reactor.password}`
	if !strings.Contains(string(text), open) {
		t.Fatal("the demo's reactor has another link now")
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), open, secured, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(l.data, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.data, "secrets", "reactor.password"), []byte("geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pkiSays(t, exitDone, l.data, "init")
	if r := run(t, "check", l.lab); r.code != exitDone || !strings.Contains(r.stdout, "INSECURE  cell: ") {
		t.Errorf("check says %s", r.stdout)
	}
	l.sim = launch(t, "sim", "--lab", l.lab, "--data", l.data)
	l.dialWorld()
	l.serve = launch(t, "serve", "--lab", l.lab, "--data", l.data)
	l.serve.says("INSECURE  cell: ")

	var thumb string
	eventually(t, "the reactor's certificate is in rejected", func() bool {
		lines, _ := pkiSays(t, exitDone, l.data, "list", "--json")
		for _, c := range lines {
			if c.State == "rejected" && c.URI == "urn:labgate:simulator:flow-reactor:server" {
				thumb = c.Thumbprint
			}
		}
		return thumb != ""
	})
	eventually(t, "the status says why the reactor is not there", func() bool {
		r := l.must(exitDone, "runs")
		return strings.Contains(r.stdout, "LINK      reactor does not answer") && strings.Contains(r.stdout, "labgate pki trust "+thumb)
	})
	pkiSays(t, exitDone, l.data, "trust", thumb)
	l.serve.says("every instrument of lab demo answers")
	if r := l.must(exitDone, "runs"); !strings.Contains(r.stdout, "INSECURE  cell: ") || strings.Contains(r.stdout, "reactor") {
		t.Errorf("the status says %s", r.stdout)
	}
	journal, err := os.ReadFile(filepath.Join(l.data, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(journal), "geheim") || strings.Contains(l.serve.err.String()+l.serve.out.String(), "geheim") {
		t.Error("the password is written down")
	}
}
