package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/metrics"
	"github.com/pgdts/pgdts/worker"
	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
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
	flags.StringVar(&w.listen, "listen", listenDefault, "host:port of /healthz and /metrics; empty = none; the default is given up where it is taken")
	flags.DurationVar(&w.patience, "connect-timeout", time.Minute, "how long to wait for the Temporal service at the start")
	flags.IntVar(&w.steps, "steps", 0, "activities at once, each with up to two sessions on either server (default 100)")
	flags.IntVar(&w.lanes, "copy-lanes", copyLanesDefault, "lanes of copies at once, of all migrations; those that are left wait for another worker")
	a.connectionsFlag(command)
	return command
}

const (
	// copyLanesDefault suits cores and network of one machine; what more are asked for is for other workers.
	copyLanesDefault = 8
	listenDefault    = "127.0.0.1:9464"
)

type workerProcess struct {
	app           *app
	queue, listen string
	patience      time.Duration
	steps, lanes  int
	metrics       *metrics.Registry
	secrets       migration.Secrets
	service       atomic.Pointer[connection] // nil until Temporal answers
}

// run serves until ctx ends, then drains. The endpoint answers from before Temporal does until after the drain: a probe
// sees a worker that waits as alive, and not healthy.
func (w *workerProcess) run(ctx context.Context) error {
	if w.lanes < 1 {
		return &coded{exitUsage, fmt.Errorf("--copy-lanes %d: want 1 or more", w.lanes)}
	}
	logger, err := w.app.logger(zapcore.InfoLevel)
	if err != nil {
		return err
	}
	known, err := w.app.secrets(nil)
	if err != nil {
		return err
	}
	if known != nil {
		w.secrets = *known
	}
	w.secrets.Foreign = true
	listener, err := w.openEndpoint(logger)
	if err != nil {
		return err
	}
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		group.Go(func() error { return w.serve(serving, listener) })
	}
	group.Go(func() error {
		defer endServing()
		return w.work(ctx, logger)
	})
	return group.Wait()
}

func (w *workerProcess) work(ctx context.Context, logger *zap.Logger) error {
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
	defer service.Close()
	w.service.Store(service)
	logger.Info("worker started", zap.String("task_queue", w.queue), zap.String("temporal", options.HostPort))
	err = worker.Run(ctx, worker.Config{
		Client: service.Client, TaskQueue: w.queue, Logger: logger, Secrets: &w.secrets,
		ConcurrentSteps: w.steps, CopyLanes: w.lanes, Observe: w.metrics.Observe,
	})
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

// openEndpoint listens. Workers beside each other that nobody gave a port share a machine without one.
func (w *workerProcess) openEndpoint(logger *zap.Logger) (net.Listener, error) {
	if w.listen == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", w.listen)
	if err != nil && w.listen == listenDefault {
		logger.Warn("health endpoint left out", zap.Error(err))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("health endpoint: %w: give another --listen", err)
	}
	return listener, nil
}

// serve answers /healthz and /metrics until ctx ends.
func (w *workerProcess) serve(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", w.metrics)
	mux.HandleFunc("/healthz", w.health)
	endpoint := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() { stopped <- endpoint.Serve(listener) }() // ends with Close, below
	select {
	case <-ctx.Done():
		return errors.Join(endpoint.Close(), served(<-stopped))
	case err := <-stopped:
		return served(err)
	}
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("health endpoint: %w", err)
}

func (w *workerProcess) health(response http.ResponseWriter, request *http.Request) {
	service := w.service.Load()
	if service == nil {
		http.Error(response, "waiting for temporal", http.StatusServiceUnavailable)
		return
	}
	if _, err := service.CheckHealth(request.Context(), &client.CheckHealthRequest{}); err != nil {
		http.Error(response, "temporal does not answer", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(response, "ok")
}
