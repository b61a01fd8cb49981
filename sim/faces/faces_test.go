package faces_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"labgate/lab"
	"labgate/sim"
	"labgate/sim/faces"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct{}

func (clock) Now() time.Time                  { return time.Now() }
func (clock) At(t time.Time) <-chan time.Time { return time.After(time.Until(t)) }

func noBroker() (string, string, string, error) { return "", "", "", errors.New("there is none") }

func host() *faces.Host { return faces.NewHost(sim.NewDemo(7, time.Now()), clock{}) }

func TestStartAndEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	begin := time.Now()
	r, err := faces.Start(ctx, host(), noBroker)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(begin))
	got := r.Addresses()
	for _, n := range []string{"pumps", "stage", "reactor", "cell"} {
		if got[n] == "" {
			t.Errorf("no address of %s in %v", n, got)
		}
	}
	if _, err := os.Stat(got["pumps"]); err != nil {
		t.Error(err)
	}
	cancel()
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}

func TestStartFailsWhole(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first, err := faces.Start(ctx, host(), noBroker)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(first.Addresses()["cell"], "opc.tcp://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	ignore := goleak.IgnoreCurrent()
	if _, err := faces.Start(ctx, host(), noBroker, faces.OPCUAPorts(0, port)); err == nil {
		t.Error("two cells on one port")
	}
	goleak.VerifyNone(t, ignore)
	cancel()
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
}

func control(t *testing.T) *faces.Control {
	t.Helper()
	h := host()
	socket := filepath.Join(t.TempDir(), "sim.sock")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- faces.ServeControl(ctx, faces.NewDesk(ctx, h, nil), socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c, err := faces.Dial(socket)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket: %v, %v", info.Mode(), err)
			}
			if err := faces.ServeControl(ctx, faces.NewDesk(ctx, h, nil), socket); err == nil {
				t.Error("a second server took the socket")
			}
			return c
		}
	}
	t.Fatal("nobody serves the socket")
	return nil
}

func TestControl(t *testing.T) {
	c := control(t)
	if e, err := c.Effects(); err != nil || len(e) != 9 {
		t.Errorf("%d effects, %v", len(e), err)
	}
	if err := c.Set("room.airflow", 0.25); err != nil {
		t.Fatal(err)
	}
	v, err := c.Read("room", "room", "airflow")
	if err != nil || math.Abs(v.Num-0.25) > 0.05 || v.Kind != lab.Number {
		t.Errorf("airflow %v, %v", v, err)
	}
	if err := c.Fault("room", "nan", true, nil); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Read("room", "room", "airflow"); err != nil || v.Kind != lab.Missing {
		t.Errorf("a broken sensor: %v, %v", v, err)
	}
	if err := c.Reboot("pump_a"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"a knob":       c.Set("gravity", 1),
		"a fault":      c.Fault("room", "haunted", true, nil),
		"an argument":  c.Set("room.airflow", -1),
		"a device":     c.Reboot("coffee_machine"),
		"not a number": c.Set("room.airflow", 99),
	} {
		if lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s that does not exist: %v", name, err)
		}
	}
	if err := c.Set("room.airflow", math.NaN()); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("NaN: %v", err)
	}
	if _, err := c.Effects(); err != nil {
		t.Errorf("after all the refusals: %v", err)
	}
	if _, err := faces.Dial(filepath.Join(t.TempDir(), "nothing")); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("nobody there: %v", err)
	}
}

func TestOnlyDeadSocketsAreReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sim.sock")
	if err := os.WriteFile(socket, []byte("a file of somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := faces.ServeControl(context.Background(), faces.NewDesk(context.Background(), host(), nil), socket); err == nil {
		t.Error("a file was replaced")
	}
	if b, err := os.ReadFile(socket); err != nil || len(b) == 0 {
		t.Fatalf("the file is gone: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as after a kill
	dead.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- faces.ServeControl(ctx, faces.NewDesk(ctx, host(), nil), socket) }()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if c, err := faces.Dial(socket); err == nil {
			c.Close()
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
