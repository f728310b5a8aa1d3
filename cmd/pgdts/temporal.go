package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter"
)

// connection is a way to one Temporal service.
type connection struct {
	client.Client
	*starter.Starter
	namespace string
}

// errNoService says that there is no configuration and no living run.
var errNoService = errors.New("no Temporal service: none is configured (TEMPORAL_ADDRESS or a profile), and no `pgdts run` is alive here")

// configured reads Temporal's own environment and profiles; flags override. Without an address there is no service.
func (a *app) configured() (client.Options, bool, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{ConfigFileProfile: a.profile})
	if err != nil {
		return client.Options{}, false, &coded{exitUsage, fmt.Errorf("temporal configuration: %w", err)}
	}
	if a.address != "" {
		options.HostPort = a.address
	}
	if a.namespace != "" {
		options.Namespace = a.namespace
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	return options, options.HostPort != "", nil
}

func dial(ctx context.Context, options client.Options, logger *zap.Logger) (*connection, error) {
	options.Logger = temporalLogger{logger.WithOptions(zap.AddCallerSkip(1)).Sugar()}
	connected, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("temporal at %s does not answer: %w: start it, or correct TEMPORAL_ADDRESS", options.HostPort, err)
	}
	return &connection{connected, starter.New(connected), options.Namespace}, nil
}

// connect finds the Temporal service that knows a migration: the configured one, or that of a living run.
func (a *app) connect(ctx context.Context, typed string) (*connection, error) {
	options, found, err := a.configured()
	if err != nil {
		return nil, err
	}
	if !found {
		run, err := a.livingRun(typed)
		if err != nil {
			return nil, err
		}
		options = client.Options{HostPort: run.Address, Namespace: run.Namespace}
	}
	return dial(ctx, options, zap.NewNop())
}

func (a *app) livingRun(typed string) (server.Address, error) {
	root, err := a.stateRoot()
	if err != nil {
		return server.Address{}, err
	}
	var fitting []server.Address
	for _, run := range server.Living(root) {
		if typed == "" || typed == string(run.ID) || typed == run.ID.Short() || typed == run.ID.Name() {
			fitting = append(fitting, run)
		}
	}
	switch len(fitting) {
	case 0:
		return server.Address{}, errNoService
	case 1:
		return fitting[0], nil
	}
	var ids []string
	for _, run := range fitting {
		ids = append(ids, string(run.ID))
	}
	return server.Address{}, &coded{exitUsage, fmt.Errorf("several runs are alive: give the id of one: %s", strings.Join(ids, ", "))}
}

// stateRoot is where living runs and saved reports are looked for.
func (a *app) stateRoot() (string, error) {
	if a.stateDir != "" {
		return a.stateDir, nil
	}
	return server.Root()
}

// temporalLogger lets the SDK log through zap.
type temporalLogger struct{ sugar *zap.SugaredLogger }

func (l temporalLogger) Debug(message string, pairs ...any) { l.sugar.Debugw(message, pairs...) }
func (l temporalLogger) Info(message string, pairs ...any)  { l.sugar.Infow(message, pairs...) }
func (l temporalLogger) Warn(message string, pairs ...any)  { l.sugar.Warnw(message, pairs...) }
func (l temporalLogger) Error(message string, pairs ...any) { l.sugar.Errorw(message, pairs...) }

// With keeps pairs for every line that follows.
func (l temporalLogger) With(pairs ...any) log.Logger { return temporalLogger{l.sugar.With(pairs...)} }

// WithCallerSkip names the line that logs, not the SDK's wrapper.
func (l temporalLogger) WithCallerSkip(skip int) log.Logger {
	return temporalLogger{l.sugar.WithOptions(zap.AddCallerSkip(skip))}
}
