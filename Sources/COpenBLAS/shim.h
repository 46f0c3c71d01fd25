#pragma once
#include <cblas.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

/* Debian's OpenBLAS has no LAPACKE, so LAPACK is declared here by its Fortran names: arguments by address, the
   hidden lengths of strings last. The wrappers take scalars by value and return the info code, because Swift's
   exclusivity rule forbids passing one variable to two pointer parameters. Matrices are column-major, as LAPACK
   has them; each wrapper asks for its own workspace and returns LORA_NO_MEMORY where there is none. */

enum { LORA_NO_MEMORY = -1000 };

/* Ends the threads that OpenBLAS starts when it is loaded, where it is a build with threads. They would wait busily, and take
   signals that the program's own threads block. */
int blas_thread_shutdown_(void) __attribute__((weak));
static inline void lora_single_thread(void) {
  openblas_set_num_threads(1);
  if (blas_thread_shutdown_) blas_thread_shutdown_();
}

void sgesdd_(const char *, const int *, const int *, float *, const int *, float *, float *, const int *,
             float *, const int *, float *, const int *, int *, int *, size_t);
void dgesdd_(const char *, const int *, const int *, double *, const int *, double *, double *,
             const int *, double *, const int *, double *, const int *, int *, int *, size_t);
void ssytrd_(const char *, const int *, float *, const int *, float *, float *, float *, float *,
             const int *, int *, size_t);
void dsytrd_(const char *, const int *, double *, const int *, double *, double *, double *, double *,
             const int *, int *, size_t);
void sstedc_(const char *, const int *, float *, float *, float *, const int *, float *, const int *,
             int *, const int *, int *, size_t);
void dstedc_(const char *, const int *, double *, double *, double *, const int *, double *,
             const int *, int *, const int *, int *, size_t);
void ssterf_(const int *, float *, float *, int *);
void dsterf_(const int *, double *, double *, int *);
void sormtr_(const char *, const char *, const char *, const int *, const int *, const float *,
             const int *, const float *, float *, const int *, float *, const int *, int *, size_t,
             size_t, size_t);
void dormtr_(const char *, const char *, const char *, const int *, const int *, const double *,
             const int *, const double *, double *, const int *, double *, const int *, int *, size_t,
             size_t, size_t);
void sgeqrf_(const int *, const int *, float *, const int *, float *, float *, const int *, int *);
void dgeqrf_(const int *, const int *, double *, const int *, double *, double *, const int *, int *);
void sorgqr_(const int *, const int *, const int *, float *, const int *, const float *, float *,
             const int *, int *);
void dorgqr_(const int *, const int *, const int *, double *, const int *, const double *, double *,
             const int *, int *);
void dpotrf_(const char *, const int *, double *, const int *, int *, size_t);
void dpotri_(const char *, const int *, double *, const int *, int *, size_t);
void dtrtri_(const char *, const char *, const int *, double *, const int *, int *, size_t, size_t);

/* Thin singular value decomposition of an m x n matrix, which is overwritten:
   u is m x k, vt is k x n, s has k = min(m, n) values in descending order. */
#define LORA_GESDD(T, name, routine)                                                                    \
  static inline int name(int m, int n, T *a, T *s, T *u, T *vt) {                                       \
    int k = m < n ? m : n, info = 0, lwork = -1;                                                        \
    T size = 0;                                                                                         \
    int *iwork = malloc(sizeof(int) * 8 * (size_t)(k > 0 ? k : 1));                                     \
    if (!iwork) return LORA_NO_MEMORY;                                                                  \
    routine("S", &m, &n, a, &m, s, u, &m, vt, &k, &size, &lwork, iwork, &info, 1);                      \
    /* A float cannot hold every large integer: the next multiple above is asked for. */                \
    lwork = (int)size + (int)size / 1024 + 64;                                                          \
    T *work = info ? NULL : malloc(sizeof(T) * (size_t)lwork);                                          \
    if (!info && !work) info = LORA_NO_MEMORY;                                                          \
    if (!info) routine("S", &m, &n, a, &m, s, u, &m, vt, &k, work, &lwork, iwork, &info, 1);            \
    free(work);                                                                                         \
    free(iwork);                                                                                        \
    return info;                                                                                        \
  }
LORA_GESDD(float, lora_sgesdd, sgesdd_)
LORA_GESDD(double, lora_dgesdd, dgesdd_)

/* A symmetric n x n matrix as Q T Q': its lower triangle becomes what describes Q, with n of tau; T has the diagonal d and the
   n - 1 elements e beside it. */
#define LORA_SYTRD(T, name, routine)                                                                    \
  static inline int name(int n, T *a, T *d, T *e, T *tau) {                                             \
    int info = 0, lwork = 64 * n;                                                                       \
    T *work = malloc(sizeof(T) * (size_t)lwork);                                                        \
    if (!work) return LORA_NO_MEMORY;                                                                   \
    routine("L", &n, a, &n, d, e, tau, work, &lwork, &info, 1);                                         \
    free(work);                                                                                         \
    return info;                                                                                        \
  }
LORA_SYTRD(float, lora_ssytrd, ssytrd_)
LORA_SYTRD(double, lora_dsytrd, dsytrd_)

/* Eigenvalues, ascending, of a tridiagonal matrix in the place of its diagonal. */
#define LORA_STERF(T, name, routine)                                                                    \
  static inline int name(int n, T *d, T *e) {                                                           \
    int info = 0;                                                                                       \
    routine(&n, d, e, &info);                                                                           \
    return info;                                                                                        \
  }
LORA_STERF(float, lora_ssterf, ssterf_)
LORA_STERF(double, lora_dsterf, dsterf_)

/* Eigenvalues, ascending, of a tridiagonal matrix in the place of its diagonal, and its n eigenvectors (one a column of z). */
#define LORA_STEDC(T, name, routine)                                                                    \
  static inline int name(int n, T *d, T *e, T *z) {                                                     \
    if ((size_t)n * (size_t)n + 4 * (size_t)n + 1 > INT_MAX) return LORA_NO_MEMORY;                     \
    int info = 0, lwork = 1 + 4 * n + n * n, liwork = 3 + 5 * n;                                        \
    T *work = malloc(sizeof(T) * (size_t)lwork);                                                        \
    int *iwork = malloc(sizeof(int) * (size_t)liwork);                                                  \
    if (!work || !iwork)                                                                                \
      info = LORA_NO_MEMORY;                                                                            \
    else                                                                                                \
      routine("I", &n, d, e, z, &n, work, &lwork, iwork, &liwork, &info, 1);                            \
    free(work);                                                                                         \
    free(iwork);                                                                                        \
    return info;                                                                                        \
  }
LORA_STEDC(float, lora_sstedc, sstedc_)
LORA_STEDC(double, lora_dstedc, dstedc_)

/* Multiplies k columns of n elements by the Q of lora_ssytrd, in place. */
#define LORA_ORMTR(T, name, routine)                                                                    \
  static inline int name(int n, int k, const T *a, const T *tau, T *z) {                                \
    int info = 0, lwork = 64 * (n + 65);                                                                \
    T *work = malloc(sizeof(T) * (size_t)lwork);                                                        \
    if (!work) return LORA_NO_MEMORY;                                                                   \
    routine("L", "L", "N", &n, &k, a, &n, tau, z, &n, work, &lwork, &info, 1, 1, 1);                    \
    free(work);                                                                                         \
    return info;                                                                                        \
  }
LORA_ORMTR(float, lora_sormtr, sormtr_)
LORA_ORMTR(double, lora_dormtr, dormtr_)

/* Householder factorisation of an m x n matrix, m >= n, in place: a becomes the orthonormal factor, r (n x n,
   column-major, zero below the diagonal) the triangular one. */
#define LORA_QR(T, name, factor, form)                                                                  \
  static inline int name(int m, int n, T *a, T *r) {                                                    \
    int info = 0, lwork = 64 * (n > 0 ? n : 1);                                                         \
    T *work = malloc(sizeof(T) * ((size_t)lwork + (size_t)n));                                          \
    if (!work) return LORA_NO_MEMORY;                                                                   \
    T *tau = work + lwork;                                                                              \
    factor(&m, &n, a, &m, tau, work, &lwork, &info);                                                    \
    for (int j = 0; j < n && !info; j++)                                                                \
      for (int i = 0; i < n; i++) r[i + (size_t)j * n] = i <= j ? a[i + (size_t)j * m] : 0;             \
    if (!info) form(&m, &n, &n, a, &m, tau, work, &lwork, &info);                                       \
    free(work);                                                                                         \
    return info;                                                                                        \
  }
LORA_QR(float, lora_sqr, sgeqrf_, sorgqr_)
LORA_QR(double, lora_dqr, dgeqrf_, dorgqr_)

/* The upper Cholesky factor of a symmetric positive definite n x n matrix, in place; the lower triangle stays.
   Of no rows it is nothing: LAPACK refuses the leading dimension 0, and says so on standard output. */
static inline int lora_dcholesky(int n, double *a) {
  int info = 0;
  if (!n) return 0;
  dpotrf_("U", &n, a, &n, &info, 1);
  return info;
}

/* The inverse of an upper triangular n x n matrix, in place; the lower triangle stays. */
static inline int lora_dtriangularInverse(int n, double *a) {
  int info = 0;
  dtrtri_("U", "N", &n, a, &n, &info, 1, 1);
  return info;
}

/* The inverse of a symmetric positive definite n x n matrix, lower triangle only, in place. */
static inline int lora_dinverse(int n, double *a) {
  int info = 0;
  dpotrf_("L", &n, a, &n, &info, 1);
  if (!info) dpotri_("L", &n, a, &n, &info, 1);
  return info;
}

/* Row-major c = alpha a b + beta c; a is m x k (or k x m, transposed), b is k x n (or n x k, transposed). */
static inline void lora_sgemm(int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                              const float *b, int ldb, float beta, float *c, int ldc) {
  cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k,
              alpha, a, lda, b, ldb, beta, c, ldc);
}

static inline void lora_dgemm(int ta, int tb, int m, int n, int k, double alpha, const double *a, int lda,
                              const double *b, int ldb, double beta, double *c, int ldc) {
  cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k,
              alpha, a, lda, b, ldb, beta, c, ldc);
}

/* The upper triangle of c += a' a for a row-major k x n matrix a. */
static inline void lora_ssyrk(int n, int k, const float *a, float *c) {
  cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, n, k, 1, a, n, 1, c, n);
}

static inline void lora_dsyrk(int n, int k, const double *a, double *c) {
  cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, n, k, 1, a, n, 1, c, n);
}
