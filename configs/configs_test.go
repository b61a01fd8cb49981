package configs

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"labgate/lab"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// builtIn reads the embedded classes and profiles.
func builtIn(t testing.TB) (map[string]*lab.Class, map[string]*lab.Profile) {
	t.Helper()
	l := &loader{config: &Config{Classes: map[string]*lab.Class{}, Profiles: map[string]*lab.Profile{}}, source: map[string][]byte{}}
	l.classes(tree{embedded, "built-in"})
	l.profiles(tree{embedded, "built-in"})
	if len(l.issues) > 0 {
		t.Fatalf("built-in files:\n%v", l.issues)
	}
	return l.config.Classes, l.config.Profiles
}

func demo(t testing.TB) *Config {
	t.Helper()
	folder, err := fs.Sub(Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(folder, "demo")
	if err != nil {
		t.Fatalf("the demo lab:\n%v", err)
	}
	return c
}

func TestBuiltInFilesLoad(t *testing.T) {
	classes, profiles := builtIn(t)
	files := func(dir string) (n int) {
		_ = fs.WalkDir(embedded, dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			return err
		})
		return n
	}
	if len(classes) != files("classes") || len(profiles) != files("profiles") {
		t.Fatalf("%d classes of %d files, %d profiles of %d files", len(classes), files("classes"), len(profiles), files("profiles"))
	}
}

// parseAny parses a file by what its name begins with.
func parseAny(file string, data []byte, classes map[string]*lab.Class, profiles map[string]*lab.Profile) (any, lab.Issues) {
	var v any
	var is lab.Issues
	switch what, _, _ := strings.Cut(file, "-"); what {
	case "class":
		v, is = ParseClass(file, data)
	case "profile":
		v, is = ParseProfile(file, data, classes)
	case "lab":
		v, _, is = ParseLab(file, data, profiles)
	case "access":
		v, is = ParseAccess(file, data)
	}
	return v, is
}

// TestBadFiles compares all that is said about each bad file, word for word.
func TestBadFiles(t *testing.T) {
	classes, profiles := builtIn(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d bad files (%v)", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			v, is := parseAny(filepath.Base(f), data, classes, profiles)
			if len(is) == 0 {
				t.Fatal("nothing is wrong with it")
			}
			if !reflect.ValueOf(v).IsZero() {
				t.Errorf("it is wrong, and still a %T came back", v)
			}
			var b strings.Builder
			for _, i := range is {
				if i.Pos.File == "" || i.Pos.Line == 0 || i.Pos.Column == 0 || i.Code == "" {
					t.Errorf("an issue without a place or a code: %#v", i)
				}
				fmt.Fprintf(&b, "%s: %s\n", i.Code, i.Error())
			}
			golden(t, strings.TrimSuffix(f, ".yaml")+".golden", b.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}
