package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"
)

// autoscalerUser is whom kube-controller-manager is for the server while it scales, with rights that every server has.
const autoscalerUser = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

// autoscalerToken is the token of autoscalerUser, made of that of the administrator.
func autoscalerToken(admin []byte) string { return "autoscaler-" + string(admin) }

// autoscale is the controller of HorizontalPodAutoscalers, made as kube-controller-manager makes it, but for its period.
// It scales Deployments once the server is ready, until the process ends.
func autoscale(dir string, port int, period time.Duration) {
	ctx := context.Background()
	admin, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		log.Fatal("kube-apiserver: autoscaler: ", err)
	}
	api := &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", port), BearerToken: autoscalerToken(admin), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(certificates(dir), "apiserver.crt")},
	}
	for {
		time.Sleep(50 * time.Millisecond)
		if err = ready(api); err == nil {
			break
		}
	}
	controller, factory, err := newAutoscaler(ctx, api, period)
	if err != nil {
		log.Fatal("kube-apiserver: autoscaler: ", err)
	}
	factory.Start(ctx.Done())
	controller.Run(ctx, 2)
}

// ready asks the server, whose certificate may not be there yet.
func ready(api *rest.Config) error {
	client, err := rest.HTTPClientFor(api)
	if err != nil {
		return err
	}
	response, err := client.Get(api.Host + "/readyz")
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}

func newAutoscaler(ctx context.Context, api *rest.Config, period time.Duration) (*podautoscaler.HorizontalController, informers.SharedInformerFactory, error) {
	client, err := kubernetes.NewForConfig(api)
	if err != nil {
		return nil, nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	scales, err := scale.NewForConfig(api, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(client.Discovery()))
	if err != nil {
		return nil, nil, err
	}
	resources, err := resourceclient.NewForConfig(api)
	if err != nil {
		return nil, nil, err
	}
	external, err := external_metrics.NewForConfig(api)
	if err != nil {
		return nil, nil, err
	}
	custom := custom_metrics.NewForConfig(api, mapper, custom_metrics.NewAvailableAPIsGetter(client.Discovery()))
	factory := informers.NewSharedInformerFactory(client, 0)
	return podautoscaler.NewHorizontalController(
		ctx, client.CoreV1(), scales, client.AutoscalingV2(), mapper,
		metrics.NewRESTMetricsClient(resources, custom, external),
		factory.Autoscaling().V2().HorizontalPodAutoscalers(), factory.Core().V1().Pods(),
		period, 5*time.Minute, 0.1, 5*time.Minute, 30*time.Second, // the defaults
	), factory, nil
}
