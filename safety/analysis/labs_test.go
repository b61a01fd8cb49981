package analysis_test

import (
	"os"
	"path/filepath"
	"testing"

	"labgate/configs"
	"labgate/lab"
	"labgate/safety/analysis"
)

// TestLabsAreExplained: of the demo and of every lab of the corpus nothing is
// found that its interlocks file does not explain, and each has mutants.
func TestLabsAreExplained(t *testing.T) {
	files, err := filepath.Glob("../testdata/corpus/*/lab.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d labs in the corpus (%v)", len(files), err)
	}
	for _, file := range append(files, "../../configs/labs/demo/lab.yaml") {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, err := configs.Load(os.DirFS(dir), dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range analysis.Verify(c.Rules) {
				if f.Explained == "" {
					t.Errorf("%s: %s: %s", f.Pos, f.ID, f.Say)
				}
			}
			ids := map[string]bool{}
			for _, m := range analysis.Mutants(c.InterlocksFile, c.Interlocks, c.Rules) {
				if ids[m.ID] || m.Pos == (lab.Pos{}) || m.From == m.To {
					t.Errorf("%s at %s: %s → %s", m.ID, m.Pos, m.From, m.To)
				}
				ids[m.ID] = true
			}
			if n := len(c.Rules.Rules); len(ids) < n {
				t.Errorf("%d mutants of %d rules", len(ids), n)
			}
		})
	}
}
