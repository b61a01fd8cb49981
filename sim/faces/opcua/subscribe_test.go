package opcua_test

import (
	"context"
	"testing"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func TestSubscription(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	notes := make(chan *opcua.PublishNotificationData, 100)
	sub, err := c.Subscribe(ctx, &opcua.SubscriptionParameters{Interval: 50 * time.Millisecond}, notes)
	if err != nil {
		t.Fatal(err)
	}
	res, err := sub.Monitor(ctx, ua.TimestampsToReturnBoth,
		opcua.NewMonitoredItemCreateRequestWithDefaults(b.node("Synthesis.Jacket.IsEnabled"), ua.AttributeIDValue, 1),
		opcua.NewMonitoredItemCreateRequestWithDefaults(ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime), ua.AttributeIDValue, 2),
		opcua.NewMonitoredItemCreateRequestWithDefaults(b.node("Nothing"), ua.AttributeIDValue, 3))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []ua.StatusCode{ua.StatusOK, ua.StatusOK, ua.StatusBadNodeIDUnknown} {
		if got := res.Results[i].StatusCode; got != want {
			t.Errorf("item %d: %v, want %v", i, got, want)
		}
	}
	seen := map[uint32][]any{}
	collect := func(ok func() bool) {
		t.Helper()
		for !ok() {
			select {
			case n := <-notes:
				if n.Error != nil {
					t.Fatal(n.Error)
				}
				if d, is := n.Value.(*ua.DataChangeNotification); is {
					for _, m := range d.MonitoredItems {
						seen[m.ClientHandle] = append(seen[m.ClientHandle], m.Value.Value.Value())
					}
				}
			case <-ctx.Done():
				t.Fatalf("saw only %v", seen)
			}
		}
	}
	collect(func() bool { return len(seen[1]) == 1 && len(seen[2]) >= 3 })
	if st := b.call(c, "Synthesis.Jacket", "StartWithTargetValue", 40.0); st != ua.StatusOK {
		t.Fatal(st)
	}
	collect(func() bool { return len(seen[1]) == 2 })
	if seen[1][0] != false || seen[1][1] != true {
		t.Errorf("IsEnabled went %v", seen[1])
	}
	if err := sub.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestRenewal keeps a subscription and reads going while the client renews its
// security token, and past the end of the first one.
func TestRenewal(t *testing.T) {
	t.Parallel()
	b := serve(t, reactorURI)
	c := b.client(opcua.Lifetime(2 * time.Second)) // renewed after 1 s, over after 2 s
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	notes := make(chan *opcua.PublishNotificationData, 1000)
	sub, err := c.Subscribe(ctx, &opcua.SubscriptionParameters{Interval: 20 * time.Millisecond}, notes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Monitor(ctx, ua.TimestampsToReturnBoth, opcua.NewMonitoredItemCreateRequestWithDefaults(
		ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime), ua.AttributeIDValue, 1)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		b.value(c, "SerialNumber")
		select {
		case n := <-notes:
			if n.Error != nil {
				t.Fatal(n.Error)
			}
		case <-time.After(time.Second):
			t.Fatal("no notification for a second")
		}
	}
}
