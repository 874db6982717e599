// core/host_device.h -- functions that nvcc compiles for the device, too.
#ifndef CORE_HOST_DEVICE_H
#define CORE_HOST_DEVICE_H

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

#endif
