package main

import (
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger writes to stderr from --log-level on; without the flag, from fallback on.
func (a *app) logger(fallback zapcore.Level) (*zap.Logger, error) {
	level := fallback
	if a.logLevel != "" {
		parsed, err := zapcore.ParseLevel(a.logLevel)
		if err != nil {
			return nil, &coded{exitUsage, fmt.Errorf("--log-level %q: want debug, info, warn or error", a.logLevel)}
		}
		level = parsed
	}
	return zap.New(core(a.stderr, level)), nil
}

// runLogger writes to the state directory, so that a terminal shows progress only; --log-level adds stderr. The caller
// closes the file.
func (a *app) runLogger(path string) (*zap.Logger, io.Closer, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("state directory: %w", err)
	}
	cores := []zapcore.Core{core(file, zapcore.InfoLevel)}
	if a.logLevel != "" {
		toStderr, err := a.logger(zapcore.InfoLevel)
		if err != nil {
			return nil, nil, err
		}
		cores = append(cores, toStderr.Core())
	}
	return zap.New(zapcore.NewTee(cores...)), file, nil
}

func core(out io.Writer, level zapcore.Level) zapcore.Core {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	return zapcore.NewCore(zapcore.NewJSONEncoder(config), zapcore.Lock(zapcore.AddSync(out)), level)
}
