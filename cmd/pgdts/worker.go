package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/metrics"
	"github.com/pgdts/pgdts/worker"
	"github.com/pgdts/pgdts/workflows"
)

func (a *app) workerCommand() *cobra.Command {
	w := workerProcess{app: a, metrics: metrics.New()}
	command := &cobra.Command{
		Use:   "worker",
		Short: "Serve a task queue against a Temporal service; drains on SIGTERM",
		Args:  cobra.NoArgs,
		RunE:  a.action(func(ctx context.Context, _ []string) error { return w.run(ctx) }),
	}
	flags := command.Flags()
	flags.StringVar(&w.queue, "task-queue", workflows.DefaultTaskQueue, "task queue to serve")
	flags.StringVar(&w.listen, "listen", "127.0.0.1:9464", "host:port of /healthz and /metrics; empty = none")
	flags.DurationVar(&w.patience, "connect-timeout", time.Minute, "how long to wait for the Temporal service at the start")
	flags.IntVar(&w.steps, "steps", 0, "activities at once, each with up to two sessions on either server (default 100)")
	return command
}

type workerProcess struct {
	app           *app
	queue, listen string
	patience      time.Duration
	steps         int
	metrics       *metrics.Registry
}

// run serves until ctx ends, then drains. The endpoint answers from the start, so that a probe sees a worker that
// still waits for Temporal as alive but not healthy.
func (w *workerProcess) run(ctx context.Context) error {
	logger, err := w.app.logger(zapcore.InfoLevel)
	if err != nil {
		return err
	}
	options, found, err := w.app.configured()
	if err != nil {
		return err
	}
	if !found {
		options.HostPort = client.DefaultHostPort
	}
	options.MetricsHandler = w.metrics.Handler()
	service, err := w.awaitService(ctx, options, logger)
	if err != nil {
		return err
	}
	defer service.Client.Close()
	group, ctx := errgroup.WithContext(ctx)
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer endServing() // the endpoint outlives the drain
		return worker.Run(ctx, worker.Config{Client: service.Client, TaskQueue: w.queue, Logger: logger, ConcurrentSteps: w.steps})
	})
	if w.listen != "" {
		group.Go(func() error { return w.serve(serving, service) })
	}
	logger.Info("worker started", zap.String("task_queue", w.queue), zap.String("temporal", options.HostPort))
	err = group.Wait()
	endServing()
	logger.Info("worker stopped")
	return err
}

const dialInterval = time.Second

// awaitService lets worker and service start in any order.
func (w *workerProcess) awaitService(ctx context.Context, options client.Options, logger *zap.Logger) (*connection, error) {
	deadline := time.Now().Add(w.patience)
	for {
		service, err := dial(ctx, options, logger)
		if err == nil || time.Now().After(deadline) {
			return service, err
		}
		logger.Warn("temporal did not answer", zap.String("temporal", options.HostPort), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(dialInterval):
		}
	}
}

// serve answers /healthz and /metrics until ctx ends.
func (w *workerProcess) serve(ctx context.Context, service *connection) error {
	listener, err := net.Listen("tcp", w.listen)
	if err != nil {
		return fmt.Errorf("health endpoint: %w: give another --listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", w.metrics)
	mux.HandleFunc("/healthz", func(response http.ResponseWriter, request *http.Request) {
		if _, err := service.CheckHealth(request.Context(), &client.CheckHealthRequest{}); err != nil {
			http.Error(response, "temporal does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(response, "ok")
	})
	endpoint := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() { stopped <- endpoint.Serve(listener) }() // ends with Close, below
	select {
	case <-ctx.Done():
		err = endpoint.Close()
		<-stopped
		return err
	case err := <-stopped:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("health endpoint: %w", err)
	}
}
