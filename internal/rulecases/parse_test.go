package rulecases_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/configs"
	"labgate/internal/rulecases"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func demo(t testing.TB) *configs.Config {
	t.Helper()
	sub, err := fs.Sub(configs.Embedded(), "labs/demo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(sub, "demo")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBadFiles: every file of cases below has something wrong with it, and the
// golden beside it says what, where, and what to do about it.
func TestBadFiles(t *testing.T) {
	c := demo(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d bad files (%v)", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got, is := rulecases.Parse(name+".yaml", data, c.Lab, c.Rules)
			if len(is) == 0 || got != nil {
				t.Fatalf("it was taken: %+v", got)
			}
			var b strings.Builder
			for _, i := range is {
				fmt.Fprintf(&b, "%s [%s]\n", i.Error(), i.Code)
				if i.Pos.File == "" || i.Pos.Line < 1 || i.Pos.Column < 1 {
					t.Errorf("%s has no place", i.Error())
				}
			}
			golden := strings.TrimSuffix(f, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != b.String() {
				t.Errorf("%v; it should say\n%s\nit says\n%s", err, want, b.String())
			}
		})
	}
}

// FuzzParse: whatever comes, there are issues or there are cases, and every
// case expects something.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	c := demo(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, is := rulecases.Parse("fuzz.yaml", data, c.Lab, c.Rules)
		if (got == nil) != (len(is) > 0) {
			t.Fatalf("cases %v with issues %v", got, is)
		}
		_, _ = rulecases.ReadHead("fuzz.yaml", data)
	})
}
