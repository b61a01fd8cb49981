package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSchemaCommand(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"schema", "protocol"}, exitDone, `"title": "Labgate protocol"`},
		{[]string{"schema", "lab"}, exitDone, `"title": "Labgate lab"`},
		{[]string{"schema", "profile"}, exitDone, `"title": "Labgate profile"`},
		{[]string{"schema", "class"}, exitDone, `"title": "Labgate class"`},
		{[]string{"schema", "interlocks"}, exitDone, `"title": "Labgate interlocks"`},
		{[]string{"schema", "proposal"}, exitDone, `"title": "Labgate proposal"`},
		{[]string{"schema", "access"}, exitDone, `"title": "Labgate access file"`},
		{[]string{"schema", "lab", "demo"}, exitUsage, "takes nothing more"},
		{[]string{"schema", "inputs", "gold-nanoparticles"}, exitDone, `"const": "degC"`},
		{[]string{"schema", "inputs"}, exitUsage, "needs a protocol"},
		{[]string{"schema", "inputs", "gold"}, exitRefused, "none of that name is built in"},
		{[]string{"schema", "protocl"}, exitUsage, "one of "},
	} {
		var out, errs bytes.Buffer
		code := execute(t.Context(), c.args, &out, &errs)
		if code != c.code || !strings.Contains(out.String()+errs.String(), c.want) {
			t.Errorf("%v: exit %d\n%s%s", c.args, code, out.String(), errs.String())
		}
		if code == exitDone && !json.Valid(out.Bytes()) {
			t.Errorf("%v: not JSON", c.args)
		}
	}
}

// The starter passes check and runs on the twin; it never writes over a file.
func TestNewProtocol(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(args ...string) (string, int) {
		var out, errs bytes.Buffer
		code := execute(t.Context(), args, &out, &errs)
		return out.String() + errs.String(), code
	}
	if said, code := run("new", "protocol", "warm-and-look"); code != exitDone {
		t.Fatal(said)
	}
	for _, args := range [][]string{{"check", "warm-and-look.yaml"}, {"simulate", "warm-and-look.yaml"}} {
		if said, code := run(args...); code != exitDone {
			t.Errorf("%v: %s", args, said)
		}
	}
	before, err := os.ReadFile("warm-and-look.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if said, code := run("new", "protocol", "warm-and-look"); code != exitRefused || !strings.Contains(said, "is there already") {
		t.Errorf("exit %d: %s", code, said)
	}
	if after, err := os.ReadFile("warm-and-look.yaml"); err != nil || !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	if said, code := run("new", "protocol", "../etc"); code != exitUsage {
		t.Errorf("exit %d: %s", code, said)
	}
}

// The comment line of each shipped file names its schema by a path that leads
// there: editors complete and check without a network.
func TestFilesNameTheirSchemas(t *testing.T) {
	kinds := map[string]string{"configs/classes": "class", "configs/profiles": "profile", "configs/labs": "", "protocols/library": "protocol"}
	for dir, kind := range kinds {
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			want := kind
			if kind == "" {
				want = strings.TrimSuffix(filepath.Base(file), ".yaml")
			}
			if err != nil || d.IsDir() || filepath.Ext(file) != ".yaml" || schemas[want] == nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(string(data), "\n")
			name, _ := strings.CutPrefix(first, "# yaml-language-server: $schema=")
			got, err := os.ReadFile(filepath.Join(filepath.Dir(file), name))
			if err != nil || !bytes.Equal(got, schemas[want]) {
				t.Errorf("%s begins with %q; its first line is to lead to the schema of a %s, as in # yaml-language-server: $schema=../schema/%s.json (%v)", file, first, want, want, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
