package dst

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

func TestOne(t *testing.T) {
	n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		t.Skip()
	}
	rep, err := Run(n, Options{Trace: true})
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile("/tmp/trace.txt", rep.Trace, 0o644)
	for _, h := range rep.Happenings {
		fmt.Println(h)
	}
	fmt.Println(rep.Violation)
}
