// Textures, surfaces: kept as they were described. Kernels do not read through them here.
#include "copies.h"
#include "handles.h"
#include "implementations.h"
#include "memory.h"

namespace standin::driver {
namespace {

struct Texture {
  CUDA_RESOURCE_DESC resource{};
  CUDA_TEXTURE_DESC texture{};
  CUDA_RESOURCE_VIEW_DESC view{};
  bool has_view = false;
};

std::map<unsigned long long, Texture>& textures() {
  static auto* all = new std::map<unsigned long long, Texture>;
  return *all;
}

std::map<unsigned long long, CUDA_RESOURCE_DESC>& surfaces() {
  static auto* all = new std::map<unsigned long long, CUDA_RESOURCE_DESC>;
  return *all;
}

unsigned long long next_handle() {
  static unsigned long long last = 0;
  return ++last;
}

bool good(const CUDA_RESOURCE_DESC& resource) {
  switch (resource.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      return alive(resource.res.array.hArray);
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
      return alive(resource.res.mipmap.hMipmappedArray);
    case CU_RESOURCE_TYPE_LINEAR:
      return find_range(resource.res.linear.devPtr) != nullptr;
    case CU_RESOURCE_TYPE_PITCH2D:
      return find_range(resource.res.pitch2D.devPtr) != nullptr;
    default:
      return false;
  }
}

CUresult find_texture(CUtexObject handle, Texture** out) {
  auto found = textures().find(handle);
  if (found == textures().end()) return CUDA_ERROR_INVALID_VALUE;
  *out = &found->second;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult tex_object_create(CUtexObject* pTexObject, const CUDA_RESOURCE_DESC* pResDesc,
                           const CUDA_TEXTURE_DESC* pTexDesc, const CUDA_RESOURCE_VIEW_DESC* pResViewDesc) {
  if (pTexObject == nullptr || pResDesc == nullptr || pTexDesc == nullptr || !good(*pResDesc))
    return CUDA_ERROR_INVALID_VALUE;
  Texture made = {*pResDesc, *pTexDesc, {}, pResViewDesc != nullptr};
  if (pResViewDesc != nullptr) made.view = *pResViewDesc;
  *pTexObject = next_handle();
  textures()[*pTexObject] = made;
  return CUDA_SUCCESS;
}

CUresult tex_object_destroy(CUtexObject texObject) {
  return textures().erase(texObject) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult tex_object_get_resource_desc(CUDA_RESOURCE_DESC* pResDesc, CUtexObject texObject) {
  Texture* texture;
  TRY(find_texture(texObject, &texture));
  return set(pResDesc, texture->resource);
}

CUresult tex_object_get_texture_desc(CUDA_TEXTURE_DESC* pTexDesc, CUtexObject texObject) {
  Texture* texture;
  TRY(find_texture(texObject, &texture));
  return set(pTexDesc, texture->texture);
}

CUresult tex_object_get_resource_view_desc(CUDA_RESOURCE_VIEW_DESC* pResViewDesc, CUtexObject texObject) {
  Texture* texture;
  TRY(find_texture(texObject, &texture));
  return texture->has_view ? set(pResViewDesc, texture->view) : CUDA_ERROR_INVALID_VALUE;
}

CUresult surf_object_create(CUsurfObject* pSurfObject, const CUDA_RESOURCE_DESC* pResDesc) {
  if (pSurfObject == nullptr || pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (pResDesc->resType != CU_RESOURCE_TYPE_ARRAY || !good(*pResDesc)) return CUDA_ERROR_INVALID_VALUE;
  *pSurfObject = next_handle();
  surfaces()[*pSurfObject] = *pResDesc;
  return CUDA_SUCCESS;
}

CUresult surf_object_destroy(CUsurfObject surfObject) {
  return surfaces().erase(surfObject) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult surf_object_get_resource_desc(CUDA_RESOURCE_DESC* pResDesc, CUsurfObject surfObject) {
  auto found = surfaces().find(surfObject);
  return found != surfaces().end() ? set(pResDesc, found->second) : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace standin::driver
